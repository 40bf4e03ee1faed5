"""
What ViyogResidue reads at its layer: from the layer's input where that tells the maps, otherwise
from the maps.
"""

from collections.abc import Hashable, Mapping

import torch
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..fitting.fitted import Statistics
from ..images.kind import ImageKind
from ..layer.checks import check_layout, check_maps
from ..layer.convolution import CONVOLUTIONS
from ..layer.finding import Path, check_path
from ..layer.layer_call import LayerCall
from ..layer.linear.effective_convolution import EffectiveConvolution, Geometry, is_plain
from ..layer.linear.flat_axes import maps_without_flat_axes
from ..layer.linear.known_layer import KnownLayer
from ..layer.linear.plain_convolution import describes, exact_maps
from ..layer.manners import as_found
from ..layer.precision import precise, without_autocast
from ..residue.evidence import reader_of
from ..residue.maps import inputs_of, local_responses, responses
from ..residue.reader import Reading
from ..residue.windows import Windows
from .base import FirstLayerDetector

__all__ = ["ResidueAtLayer"]


# rounding weights to half precision changes them by less
_ROUNDED = 0.02


class ResidueAtLayer(FirstLayerDetector):
    """Reads responses of the fitted directions, and their features, at the layer."""

    _known_key: tuple[dict[str, Tensor], Hashable] | None = None
    _checked_path: Path | None = None
    # of a deployed detector: integers, which cannot be read from a tensor while tracing
    _deployed_geometry: Geometry | None = None

    def __init__(self, model: Module | None, *, layer: str | Module | None = None):
        """
        :param model: as for :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue`
        :param layer: as for that
        """
        super().__init__(model, layer=layer)
        self._known_layer = KnownLayer()

    def _without_model(self) -> Self:
        bare = super()._without_model()
        bare._deployed_geometry = self._geometry(self._require_state())
        bare._known_layer = KnownLayer()
        return bare

    @staticmethod
    def _check_loaded(tensors: Mapping[str, Tensor]) -> None:
        Geometry.from_tensor(tensors["geometry"])

    def _is_of_other_weights(self) -> bool:
        known = isinstance(self.layer, Module) or self.layer_name is not None
        layer = self._layer_read() if known else None
        if layer is None or not is_plain(layer) or next(layer.parameters()).is_meta:
            return False
        state = self._require_state()
        with as_found(layer):  # some compute their weights, and learn from it in training mode
            kernel = EffectiveConvolution.of(layer).kernel.to(state["local"])
        if state["local_kernel"].shape[1:] != kernel.shape[1:]:  # axes of length 1 were dropped
            return False
        off = torch.einsum("mc,c...->m...", state["local"], kernel) - state["local_kernel"]
        return bool(off.norm() > _ROUNDED * state["local_kernel"].norm())

    def _geometry(self, state: dict[str, Tensor]) -> Geometry:
        return self._deployed_geometry or Geometry.from_tensor(state["geometry"])

    def _measure_call(self, x: Tensor, call: LayerCall) -> Statistics:
        if call.path is not None and call.path is not self._checked_path:
            check_path(type(self).__name__, call.path)  # warns once, not at every batch
            self._checked_path = call.path
        return super()._measure_call(x, call)

    def _assign(self, statistics: Statistics | None, source: str) -> Self:
        self._checked_path = None  # the next fit warns again
        return super()._assign(statistics, source)

    def _layer_read(self) -> Module:
        if isinstance(self.layer, Module):
            return self.layer
        if self._first_layer is not None and self._first_layer.name is not None:
            return self._first_layer.layer()
        raise RuntimeError(
            "ViyogResidue needs to know the layer that made the feature maps. Pass "
            "it: ViyogResidue(None, layer=conv), or name it: ViyogResidue(model, layer='...')."
        )

    def _kind_at_fit(self, state: dict[str, Tensor]) -> ImageKind:
        return ImageKind.of_tensors(state)

    def _read_call(self, call: LayerCall, state: dict[str, Tensor]) -> Reading:
        """Read once for all that read the same: the reading is nearly all of the work."""
        key = self._reading_key(state)
        reading: Reading | None = call.readings.get(key)
        if reading is None:
            reading = self._read_input(call, state)
        if reading is None:
            reading = self._read_maps(check_maps(self._maps_at(call), self._layout), state)
        call.readings[key] = reading
        return reading

    @staticmethod
    def _maps_at(call: LayerCall) -> Tensor:
        """The layer's maps in full precision: it runs once, however many ask for them."""
        if exact_maps not in call.readings:
            call.readings[exact_maps] = exact_maps(call)
        maps: Tensor = call.readings[exact_maps]
        return maps

    def _reading_key(self, state: dict[str, Tensor]) -> Hashable:
        """Equal for detectors of equal directions, whose readings are the same."""
        if state is not self._state:  # deployed: nobody else reads
            return id(self)
        known = self._known_key
        if known is None or known[0] is not state:
            numbers = torch.cat([state["energies"], state["mean"]]).tolist()
            known = self._known_key = (state, tuple(numbers))
        return known[1]

    def _read_input(self, call: LayerCall, state: dict[str, Tensor]) -> Reading | None:
        """From the layer's input, without its maps; ``None`` where it does not tell these."""
        geometry, inputs = self._geometry(state), tuple(call.input.shape[2:])
        if len(inputs) != len(geometry.stride):  # axes of length 1 were dropped
            return None
        if not describes(geometry, call, len(state["scale"])):
            return None
        spatial = geometry.maps_shape(inputs)
        if isinstance(call.layer, CONVOLUTIONS):
            check_layout((call.input.shape[0], call.layer.out_channels, *spatial), self._layout)
        return self._read_seen(call.input, state)

    def _read_seen(self, inputs: Tensor, state: dict[str, Tensor]) -> Reading | None:
        """From what the layer sees; ``None`` where the padding is in the way."""
        geometry = self._geometry(state)
        shape = geometry.maps_shape(tuple(inputs.shape[2:]))
        windows = Windows.of(geometry, shape)
        field = windows.field(geometry, inputs)
        if field is None:
            return None
        with without_autocast(field.device):
            reader = reader_of(state)
            seen = precise(field)
            found = reader.from_input(geometry, seen, windows)
            flat = reader.flat_in_input(geometry, seen, windows, state["scale"])
            features = reader.features(found, flat, windows)

        def read_local() -> Tensor:
            with without_autocast(seen.device):
                return reader.local_from_input(geometry, seen, windows)

        return Reading(found, windows, shape, features, flat, read_local)

    def _read_maps(self, maps: Tensor, state: dict[str, Tensor]) -> Reading:
        geometry = self._geometry(state)
        maps = maps_without_flat_axes(maps, len(geometry.stride))
        shape = tuple(maps.shape[2:])
        windows, reader = Windows.of(geometry, shape), reader_of(state)
        with without_autocast(maps.device):
            inputs = inputs_of(reader, geometry, maps)
        reading = None if inputs is None else self._read_seen(inputs, state)
        if reading is not None:
            return reading
        packed = windows.pack(maps)
        with without_autocast(maps.device):
            found, flat = responses(reader, packed, windows)
            features = reader.features(found, flat, windows)

        def read_local() -> Tensor:
            with without_autocast(maps.device):
                return local_responses(reader, packed, windows)

        return Reading(found, windows, shape, features, flat, read_local)
