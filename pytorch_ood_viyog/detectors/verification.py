"""
Which layer is read, in words, and whether a known residue is read there as what it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..layer.checks import check_input, check_number
from .residue_readings import ResidueReadings

__all__ = ["LayerDescription", "Verification", "VerifiedReadings"]

# how far off a strength may be read, and the most that clean images may show of it
_OFF, _CLEAN = 0.4, 0.4
# share of the pairs of an image with and one without residue that scores must order
_ORDERED = 0.95


@dataclass(frozen=True)
class LayerDescription:
    """What a detector reads; its text is a line for each."""

    #: name of the layer
    layer: str
    #: kernel and stride of the convolution that it is
    kernel: str
    #: what lies between the model's input and the layer's
    before: str
    #: how often it runs
    runs: str
    #: numbers of directions that are read at a position and in its neighbourhood
    directions: tuple[int, int]
    #: number of directions that ID images leave empty to rounding
    empty: int
    #: dynamic range of each channel of the layer's input
    range: tuple[float, ...]
    #: what ID images show in the quietest direction, as a fraction of the range; rounding to 8 bit
    #: alone is 0.29 / 255
    quietest: float
    #: size of the maps, where it is known
    size: tuple[int, ...] | None

    def __str__(self) -> str:
        ranges = ", ".join(f"{width:.3g}" for width in self.range[:6])
        size = "not kept" if self.size is None else " × ".join(map(str, self.size))
        rows = {
            "layer": self.layer,
            "kernel": self.kernel,
            "before it": self.before,
            "runs": self.runs,
            "directions": f"{self.directions[0]} at a position, {self.directions[1]} around it",
            "empty": f"{self.empty} more, which ID images leave empty to rounding",
            "range": ranges + (", ..." if len(self.range) > 6 else ""),
            "quietest": f"{255 * self.quietest:.2g} / 255 (rounding to 8 bit: 0.29 / 255)",
            "maps": size,
        }
        return "\n".join(f"{name + ':':<12}{value}" for name, value in rows.items())

    __repr__ = __str__


@dataclass(frozen=True)
class Verification:
    """What was read of a known residue on the user's own images."""

    #: whether the strength is read within 40 %, clean images show little of it, and the scores of
    #: images with it are above those of images without
    right: bool
    #: strength that was added, and what was read with and without it (medians), as fractions of
    #: the range; NaN where the layer tells no strengths
    added: float
    read: float
    clean: float
    #: scores without and with the residue, shape :math:`B`
    scores: tuple[Tensor, Tensor]
    #: share of the pairs of one image without and one with the residue that scores order
    ordered: float
    layer: str

    def __str__(self) -> str:
        before, after = (float(values.median()) for values in self.scores)
        return (
            f"{'right' if self.right else 'WRONG'}: at layer {self.layer!r}, "
            f"{255 * self.read:.1f} / 255 is read of {255 * self.added:.1f} / 255 "
            f"({255 * self.clean:.1f} / 255 without it); scores {before:.1f} -> {after:.1f}, "
            f"{self.ordered:.0%} of all pairs in order"
        )

    __repr__ = __str__


class VerifiedReadings(ResidueReadings):
    """Lets a user see what is read, and try whether it is right."""

    def describe(self) -> LayerDescription:
        """
        :return: what is read: layer, kernel, what lies before it, directions, range; its text has
            a line for each
        :raises RequiresFittingException: if the detector is not fitted
        """
        state = self._require_state()
        geometry, first = self._geometry(state), self._first_layer
        kernel = "×".join(map(str, geometry.kernel_size))
        stride = "×".join(map(str, geometry.stride))
        layer = type(self.layer).__name__ if self.layer is not None else "maps"
        runs = None if first is None else first.runs
        several = "once" if runs is None or runs.per_sample == 1 else f"{runs.per_sample} times"
        shape = None if self._statistics is None else self._statistics["shape"].tolist()
        return LayerDescription(
            layer=self.layer_name or layer,
            kernel=f"{kernel}, stride {stride}, {len(state['scale'])} to {len(state['mean'])} "
            f"channels",
            before=str(first.path) if first is not None and first.path else "not looked at yet",
            runs=f"{several} on each sample",
            directions=(len(state["local"]), len(state["window"])),
            empty=len(state["empty"]),
            range=tuple(state["scale"].tolist()),
            quietest=float(state["energies"].min().clamp_min(0).sqrt()),
            size=None if shape is None else tuple(shape),
        )

    @torch.no_grad()
    def verify(self, x: Tensor, *, eps: float = 8 / 255, seed: int = 0) -> Verification:
        """
        Add a known residue, random signs, to images and see what is read of it: whether the layer
        that is read is the right one for this model.

        .. code-block:: python

            print(detector.describe())
            assert detector.verify(images).right

        :param x: some clean images, eight or more, as for :meth:`predict`
        :param eps: strength of the residue, as fraction of the dynamic range
        :param seed: seed of the signs
        :return: what was read of it; ``.right`` is a bool
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`, or if there are fewer than two images
        """
        check_number("eps", eps, low=1e-6, high=1.0)
        x = self._to_device(check_input(x))
        if len(x) < 2:
            raise ValueError(f"verify() needs some images to compare, got {len(x)}.")
        scores, clean = self.predict(x), self.noise_floor(x)
        changed = self._with_residue(x, eps, seed)
        noisy, floors = self.predict(changed), self.noise_floor(changed)
        ordered = float((noisy[:, None] > scores).double().mean())
        read, usual = float(floors.median()), float(clean.median())
        strength = abs(read / eps - 1) <= _OFF and usual <= _CLEAN * eps
        return Verification(
            right=bool((strength or read != read) and ordered >= _ORDERED),
            added=eps,
            read=read,
            clean=usual,
            scores=(scores, noisy),
            ordered=ordered,
            layer=self.layer_name or "",
        )

    def _with_residue(self, x: Tensor, eps: float, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        signs = (torch.randint(0, 2, x.shape, generator=generator) * 2 - 1).to(x.device)
        if not x.is_floating_point():  # grey levels, which stay in their range
            change = round(255 * eps) * signs
            inside = (x + change >= 0) & (x + change <= 255)
            return torch.where(inside, x + change, x - change).to(x.dtype)
        return (x + eps * self._input_widths(x) * signs).to(x.dtype)

    def _input_widths(self, x: Tensor) -> Tensor:
        """Dynamic range of the model's input, as the fit has it or as these images show it."""
        path = None if self._first_layer is None else self._first_layer.path
        scale = self._require_state()["scale"].to(x.device)
        if path is not None and len(path.gains) == len(scale):
            widths = scale / scale.new_tensor(path.gains).abs()
            return widths.view(1, -1, *[1] * (x.dim() - 2))
        low, high = torch.aminmax(x.double())
        return high - low
