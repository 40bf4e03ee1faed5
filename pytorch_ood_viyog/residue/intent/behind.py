"""
ID images and residues behind a way: what lies between attacker and model changes a residue too,
so it is added to the images before they go that way, and the layer is read again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...fitting.fitted import Statistics
from ...images.ways import Through, apply_ways
from ...layer.linear.effective_convolution import EffectiveConvolution
from ..random_residues import smooth_signs
from ..statistics import kind_of
from .sample import layer_inputs
from .simulation import UnitRange

__all__ = ["Behind", "check_takes_ways"]

# samples at once
_CHUNK = 32
# images of a chunk draw other ways than those of the next
_STRIDE = 7919
# channels that differ by less are those of a grey image
_SAME = 0.5 / 255


def check_takes_ways(inputs: Tensor | None) -> None:
    """Raise a ``ValueError`` if inputs of the layer are no images, or not known."""
    if inputs is None:
        raise ValueError(
            "through needs the images before the way, which feature maps do not tell: use fit() "
            "with a model, not fit_features()."
        )
    if inputs.dim() != 4 or inputs.shape[1] not in (1, 3):
        raise ValueError(
            f"through needs a first layer that sees images of 1 or 3 channels, "
            f"B × C × H × W, but it sees {tuple(inputs.shape)}."
        )


@dataclass(frozen=True)
class Behind:
    """ID images before the way, and how to send them through it."""

    through: Through
    #: in [0, 1], :math:`N \\times C \\times H \\times W`, in an order of their own
    images: Tensor
    #: between them and the layer's inputs
    units: UnitRange
    seed: int

    @staticmethod
    def of(
        through: Through, conv: EffectiveConvolution, statistics: Statistics, seed: int
    ) -> "Behind":
        """
        :return: the ID images that were kept, with seeds of residues and of what is random in a
            way
        """
        units = UnitRange(*kind_of(statistics).black_and_width())
        return Behind(through, units.to_unit(layer_inputs(conv, statistics)), units, seed)

    def inputs(self, images: Tensor, part: int = 0) -> Tensor:
        """
        Of images in [0, 1] the layer's inputs behind the way; each part of them draws ways of its
        own.
        """
        sent = apply_ways(self.through, images, seed=self.seed + _STRIDE * part)
        return self.units.from_unit(sent)

    def clean(self) -> Tensor:
        """:return: the layer's inputs for all ID images"""
        parts = torch.split(self.images, _CHUNK)
        return torch.cat([self.inputs(images, part) for part, images in enumerate(parts)])

    def groups(
        self,
        features: Callable[[Tensor], Tensor],
        strengths: tuple[float, ...],
        smooth: tuple[float, ...],
        width: float,
    ) -> list[Tensor]:
        """
        :return: features of ID images with residues of each strength (0 is none), and with smooth
            ones, blurred by so many pixels, of these strengths for one image after the other
        """
        generator = torch.Generator().manual_seed(self.seed)
        grey = bool(((self.images - self.images[:, :1]).abs() < _SAME).all())
        chunks = []
        for part, images in enumerate(torch.split(self.images, _CHUNK)):
            signs = torch.randint(0, 2, images.shape, generator=generator).to(images) * 2 - 1
            if grey:  # the same in all channels, every other time
                signs[1::2] = signs[1::2, :1].clone()
            turns = images.new_tensor(smooth).repeat(len(images))[: len(images)]
            changed = [images + e * signs for e in strengths]
            changed.append(images + turns.view(-1, 1, 1, 1) * smooth_signs(signs, width).to(signs))
            chunks.append([features(self.inputs(x, part)) for x in changed])
        return [torch.cat(group) for group in zip(*chunks, strict=True)]
