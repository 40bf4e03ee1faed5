"""
What ViyogResidue shows beside its score: noise floors of images and of their parts, and the maps
without their residue.
"""

import warnings
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ...layer.checks import check_finite, check_maps
from ...layer.layer_call import LayerCall
from ...layer.linear.flat_axes import without_flat_axes
from ...layer.linear.known_layer import KnownLayer
from ...layer.linear.plain_convolution import exact_maps
from ...residue.evidence import floor_is_known, noise_floor, reader_of
from ...residue.maps import duals, energy_in, purified_maps
from ...residue.reader import Reading
from ...residue.regions import floor_map
from .residue_parts import ResidueParts

__all__ = ["ResidueReadings"]

# half a grey level in 255: less may be rounding in another order
_FOREIGN = 0.5 / 255


class ResidueReadings(ResidueParts):
    """Readings of a detector that scores by features of a noise floor."""

    _known_layer: KnownLayer

    def noise_floor(self, x: Tensor) -> Tensor:
        """
        Estimated strength of the perturbation of each sample, beyond what ID images show: the
        median over the local directions of

        .. math::
            \\sqrt{\\max(0,\\ \\mathrm{median}(z^2) - \\mathrm{median}_{ID}(z^2))\\, /\\, 0.4549}

        :param x: batch of model inputs, as for :meth:`predict`
        :return: strengths of shape :math:`B`, as fractions of the input's dynamic range, like
            ``eps``: 5/255 for a residue of 5 grey levels in 255; NaN, with a warning, where ID
            images themselves leave no direction quiet
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`
        """
        floors = self._read_at_layer(x, self._floors, reduce=lambda call, values: values)
        return self._known_floors(floors)

    def readings(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, as for :meth:`predict`
        :return: the features that scores are made of, float64 of shape :math:`B \\times F`
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`
        """
        return self._input_features(x)

    @property
    def reading_names(self) -> list[str]:
        """What each of the features is, in words."""
        return reader_of(self._require_state()).names

    def noise_floor_features(self, maps: Tensor) -> Tensor:
        """
        :param maps: first-layer feature maps, as for :meth:`predict_features`
        :return: what :meth:`noise_floor` gives
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict_features`
        """
        state = self._require_state()
        return self._known_floors(noise_floor(self._maps_features(maps), state))

    def noise_floor_at(self, call: LayerCall, state: dict[str, Tensor] | None = None) -> Tensor:
        """
        :meth:`noise_floor` inside a forward pass that somebody else runs.

        :param call: the moment that the layer runs
        :param state: fitted state, for modules that hold it themselves; default is the detector's
        :return: strengths of shape :math:`B`
        :raises RequiresFittingException: if the detector is not fitted
        """
        state = self._require_state() if state is None else state
        self._warn_of_other_kind(call.input, state)
        return self._floors(call, state)

    def _known_floors(self, floors: Tensor) -> Tensor:
        if floor_is_known(self._require_state()):
            return floors
        warnings.warn(
            "ID images leave no direction of this layer quiet, so that the strength of a residue "
            "cannot be told: noise floors are NaN. Scores are not affected.",
            stacklevel=3,
        )
        return torch.full_like(floors, torch.nan)

    def _floors(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        reading = self._read_call(call, state)
        floors = noise_floor(reading.features, state)[:, None]
        # of many small rows, the largest floor is the one that is furthest off
        return call.of_largest(floors, lambda: self._score_reading(reading, state))[:, 0]

    def noise_duals(self, call: LayerCall) -> Tensor:
        """
        What takes responses in :attr:`noise_directions` back to the maps, see
        :func:`~pytorch_ood_viyog.residue.maps.duals`.

        :param call: the moment that the layer runs
        :return: one a row, :math:`M \\times C`
        :raises RequiresFittingException: if the detector is not fitted
        """
        state = self._require_state()
        maps = call.maps()
        conv = self._known_layer.describe(call.layer, call.input, maps)
        conv, _, _ = without_flat_axes(conv, call.input, maps)
        return duals(conv.kernel, state["scale"], state["local"])

    def purified_maps_at(
        self,
        call: LayerCall,
        duals: Tensor,
        strengths: Tensor,
        state: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """
        The layer's maps without their small responses in :attr:`noise_directions`, see
        :func:`~pytorch_ood_viyog.residue.maps.purified_maps`.

        :param call: the moment that the layer runs
        :param duals: what :meth:`noise_duals` gave
        :param strengths: strength of the residue to take out of each sample, as
            :meth:`noise_floor` gives it, shape :math:`B`; its rows are taken to have it all
        :param state: as for :meth:`noise_floor_at`
        :return: purified maps, :math:`B \\times C \\times *S`
        :raises RequiresFittingException: if the detector is not fitted
        """
        state = self._require_state() if state is None else state
        strengths = strengths if call.rows is None else call.rows.spread(strengths)
        return purified_maps(call.maps(), state["mean"], state["local"], duals, strengths)

    @torch.no_grad()
    def residue_map(self, x: Tensor) -> Tensor:
        """
        Local noise floor: the strength of a residue in each of 8 × 8 overlapping regions, fewer
        on maps of less than 16 positions along an axis, see
        :func:`~pytorch_ood_viyog.residue.regions.floor_map`. Cell :math:`i` of :math:`H'`
        stands for the part from :math:`i / H'` to :math:`(i + 1) / H'` of the image and sees
        half a cell more on each side. Texture that is rougher than the median ID position counts
        as a residue.

        :param x: batch of model inputs, as for :meth:`predict`
        :return: strengths of shape :math:`B \\times *H'`, one axis for each of the maps' that
            is longer than 1, as fractions of the input's dynamic range, like ``eps``; of a model
            that reads several frames or views of a sample :math:`B \\times m \\times *H'`, a map
            for each
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`
        """
        return self._read_at_layer(
            x,
            lambda call, state: self._floor_map(self._read_call(call, state), state),
            LayerCall.grouped,
        )

    def residue_map_features(self, maps: Tensor) -> Tensor:
        """
        :param maps: first-layer feature maps, as for :meth:`predict_features`
        :return: what :meth:`residue_map` gives
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict_features`
        """
        return self._read_from_maps(maps, self._floor_map)

    @torch.no_grad()
    def foreign_energy(self, x: Tensor) -> Tensor:
        """
        What an input shows where all ID images show nothing at all, as colour is to a detector
        that was fitted on grey images: root mean square over the directions that ID images leave
        empty to rounding. Not part of the score: such an input is not of the ID kind, whether it
        was attacked or not.

        :param x: batch of model inputs, as for :meth:`predict`
        :return: strengths of shape :math:`B`, as fractions of the input's dynamic range; 0 where
            no direction is empty
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`
        """
        return self._read_at_layer(x, self._foreign)

    @staticmethod
    def _foreign(call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        return energy_in(state["empty"], exact_maps(call), state["mean"])

    @staticmethod
    def _floor_map(reading: Reading, state: dict[str, Tensor]) -> Tensor:
        return floor_map(reading, reader_of(state), state["means"])

    @torch.no_grad()
    def _input_features(self, x: Tensor) -> Tensor:
        return self._read_at_layer(x, self._call_features)

    def _maps_features(self, maps: Tensor) -> Tensor:
        return self._read_from_maps(maps, lambda reading, _: reading.features)

    @torch.no_grad()
    def _read_from_maps(
        self, maps: Tensor, read: Callable[[Reading, dict[str, Tensor]], Tensor]
    ) -> Tensor:
        """What ``read`` gives of the reading of checked maps."""
        state = self._require_state()
        maps = self._to_device(check_maps(maps, self._layout))
        values = read(self._read_maps(maps, state), state)
        check_finite("Feature maps", maps, values)
        return values

    def _score(self, maps: Tensor, state: dict[str, Tensor]) -> Tensor:
        return self._score_reading(self._read_maps(maps, state), state)

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        if self._first_layer is not None and len(state["empty"]) > 0:
            self._warn_of_foreign(call, state)
        return self._score_reading(self._read_call(call, state), state)

    def _warn_of_foreign(self, call: LayerCall, state: dict[str, Tensor]) -> None:
        foreign = int((self._foreign(call, state) > _FOREIGN).sum())
        if foreign:
            warnings.warn(
                f"{foreign} of {len(call.input)} inputs show something in {len(state['empty'])} "
                f"directions that all ID images leave exactly empty (as colour is to grey "
                f"images): they are not of the ID kind. "
                f"{type(self).__name__}.foreign_energy(x) tells how much.",
                stacklevel=2,
            )

    @abstractmethod
    def _score_reading(self, reading: Reading, state: dict[str, Tensor]) -> Tensor:
        """Scores of shape :math:`B`."""
