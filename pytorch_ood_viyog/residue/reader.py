"""
How ViyogResidue reads a perturbation: quiet directions at a position and in its neighbourhood.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..layer.linear.constant_windows import constant, if_any
from ..layer.linear.effective_convolution import Geometry
from ..layer.linear.precise_convolution import convolve_differences
from .features import BAND, features
from .windows import Windows

__all__ = ["Reader", "Reading", "Responses"]

#: responses of the local directions, thinned out, and of those in a window,
#: :math:`B \\times R \\times P` each
Responses = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Reading:
    """What was read of a batch, for every detector that reads the same."""

    #: responses at positions and in windows
    responses: Responses
    #: where the windows are
    windows: Windows
    #: spatial shape of the maps
    shape: tuple[int, ...]
    #: robust summaries over space, :math:`B \\times F`
    features: Tensor
    #: which windows are constant, with their spatial axes, :math:`B \\times *counts`
    flat: Tensor
    #: gives the local responses at all positions
    read_local: Callable[[], Tensor]

    def around(self) -> Tensor:
        """:return: responses in windows, with their spatial axes"""
        around = self.responses[1]
        return around.reshape(*around.shape[:2], *self.windows.count_of(self.shape))

    def at_windows(self) -> Responses:
        """:return: responses where windows are, with their spatial axes"""
        counts = self.windows.count_of(self.shape)
        return self.windows.centres(self.read_local(), counts), self.around()


@dataclass(frozen=True)
class Reader:
    """Directions, as linear maps from feature maps, or from the layer's input, to responses."""

    #: mean of the maps on ID data, shape :math:`C`
    mean: Tensor
    #: directions at a position, quietest first, :math:`M \\times C`
    local: Tensor
    #: directions in the window around it, :math:`R \\times W \\times 3 \\times \\dots`, on the
    #: responses of the :math:`W` quietest local directions
    window: Tensor
    #: the local ones composed with the convolution, :math:`M \\times C_{in} \\times *K`
    local_kernel: Tensor
    #: those in a window composed with the convolution, :math:`R \\times C_{in} \\times *E`
    window_kernel: Tensor
    #: what the composed kernels leave out: bias and mean, shape :math:`M`
    local_offset: Tensor
    #: the same for the window, shape :math:`R`
    window_offset: Tensor
    #: natural energy per unit of noise gain of the :math:`M + R` directions
    energies: Tensor
    #: directions at a position that ID images leave empty to rounding, :math:`Z \\times C`; they
    #: are no quiet ones
    empty: Tensor

    @property
    def names(self) -> list[str]:
        """What the features are, in their order; directions are counted from the quietest."""
        local, read = len(self.local), min(len(self.window), len(self.local))
        bands = [max(1, n // min(BAND, n)) for n in (local, len(self.window))]
        kinds = [(s, "direction") for s in ("10 % quantile", "median", "mean")]
        kinds += [(s, "band") for s in ("5 % quantile", "25 % quantile", "median")]
        return [
            f"{summary} of {what} {number + 1} {where}"
            for summary, what in kinds
            for where, count in zip(
                ("at a position", "in a window"),
                (read, len(self.window)) if what == "direction" else bands,
                strict=True,
            )
            for number in range(count)
        ]

    @property
    def local_medians(self) -> slice:
        """Where the medians of the local directions stand among the features."""
        read = min(len(self.window), len(self.local))
        return slice(read + len(self.window), 2 * read + len(self.window))

    @property
    def window_medians(self) -> slice:
        """Where the medians of the directions in a window stand among the features."""
        start = self.local_medians.stop
        return slice(start, start + len(self.window))

    def from_input(self, geometry: Geometry, field: Tensor, windows: Windows) -> Responses:
        """:return: responses :math:`z`, by the part of the layer's input that the windows see"""
        local, around = self.of_residue(geometry, field, windows)
        local += self.local_offset.to(field.dtype)[:, None]
        around += self.window_offset.to(field.dtype)[:, None]
        return local, around

    def of_residue(self, geometry: Geometry, residue: Tensor, windows: Windows) -> Responses:
        """:return: what it adds to the responses, if that is added to what the windows see"""
        stride = windows.input_stride(geometry)
        own = windows.positions_field(geometry, residue)
        sparse = tuple(a * b for a, b in zip(stride, windows.spread, strict=True))
        local = convolve_differences(own, self.local_kernel, sparse, geometry.dilation)
        once = (1,) * len(stride)
        around = convolve_differences(residue, self.window_kernel, stride, once)
        return local.flatten(2), around.flatten(2)

    def local_from_input(self, geometry: Geometry, field: Tensor, windows: Windows) -> Tensor:
        """:return: responses of the local directions at all positions that are read one by one"""
        own = windows.positions_field(geometry, field)
        stride = windows.input_stride(geometry)
        local = convolve_differences(own, self.local_kernel, stride, geometry.dilation)
        return local.flatten(2) + self.local_offset.to(field.dtype)[:, None]

    def flat_in_input(
        self, geometry: Geometry, field: Tensor, windows: Windows, scale: Tensor
    ) -> Tensor:
        """:return: which windows of the field are constant"""
        sizes = tuple(self.window_kernel.shape[2:])
        return constant(field, scale, sizes, windows.input_stride(geometry))

    def features(
        self,
        responses: Responses,
        flat: Tensor | None = None,
        windows: Windows | None = None,
    ) -> Tensor:
        """
        :param responses: :math:`z`, in units of the input's dynamic range
        :param flat: which windows are constant, :math:`B \\times *counts`; ``None``: none are
        :param windows: where they are
        :return: what :func:`~pytorch_ood_viyog.residue.features.features` gives, shape
            :math:`B \\times F`
        """
        flat = None if flat is None else if_any(flat)
        if flat is None or windows is None:
            return features(*responses, one_by_one=len(self.window))
        positions = windows.thinned(windows.around_positions(flat)).flatten(1)
        return features(*responses, len(self.window), (positions, flat.flatten(1)))
