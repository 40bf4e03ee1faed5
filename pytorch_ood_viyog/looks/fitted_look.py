"""
What a second look holds once it is fitted, and how it compares answers by that.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..detectors.residue import ViyogResidue
from ..images.pixel_range import PixelRange
from ..images.ways import Through, apply_ways
from ..layer.batches import at_once
from .choice import Choice, chosen
from .comparison import Comparison, KnownAnswers, Reference
from .logits import Answers
from .purification import Purification, Purifier, PurifierError

__all__ = ["FittedLook"]

# ID samples that purifiers are tried on
_JUDGED = 128
# simulated noise that answers must survive, as a fraction of the inputs' range
_NOISE = 4 / 255


@dataclass(frozen=True)
class FittedLook:
    """What follows from ID inputs."""

    #: fitted detector whose noise floor and directions are used
    residue: ViyogResidue
    #: black and white of the inputs
    pixels: PixelRange
    #: what takes responses back to the maps
    duals: Tensor
    #: purifier and strength
    choice: Choice
    #: what both answers to ID samples show, which gives scores
    reference: Reference
    #: what they show that p-values are read from, and when an answer is overruled
    known: KnownAnswers

    @classmethod
    def of(
        cls,
        purification: Purification,
        x: Tensor,
        purifier: Purifier,
        strength: float | None,
        max_flips: float,
        seed: int,
        through: Through | None,
    ) -> "FittedLook":
        """
        :param purification: how the model is asked
        :param x: ID inputs
        :param purifier: as for :func:`~pytorch_ood_viyog.looks.choice.chosen`
        :param strength: as for that
        :param max_flips: as for that
        :param seed: seed of the simulated noise
        :param through: the way that inputs and noise take before the model sees them
        :return: what follows from the ID inputs
        """
        pixels, clean = purification.pixels, x[:_JUDGED]
        noisy = pixels.noisy(clean, _NOISE, seed)
        if through is not None:
            noisy, x = (
                pixels.inputs(apply_ways(through, pixels.images(before), seed=seed), before)
                for before in (noisy, x)
            )
            clean = x[:_JUDGED]
        choice = chosen(purification, purifier, strength, clean, noisy, max_flips)
        # what the choice was made for says too little of new samples
        rest = x[_JUDGED:] if len(x) >= 2 * _JUDGED else x
        pairs = []
        for part in torch.split(rest, at_once(rest)):
            answer, floors = purification.first(part)
            again = purification.second(part, floors, choice.purifier, choice.strength)[0]
            pairs.append((answer, again))
        first, second = (torch.cat(answers) for answers in zip(*pairs, strict=True))
        reference = Reference.of(first, second)
        known = KnownAnswers.of(reference, first, second, max_flips)
        return cls(purification.residue, pixels, purification.duals, choice, reference, known)

    def calibrated(self, first: Tensor, second: Tensor, max_flips: float) -> "FittedLook":
        """The same with p-values among ID samples of these logits, :math:`n \\times C` each."""
        return replace(self, known=KnownAnswers.of(self.reference, first, second, max_flips))

    def compare(
        self, answers: Answers, follow: float, x: Tensor, given: Tensor | None
    ) -> Comparison:
        """
        :param answers: asks the model
        :param follow: how much of the noise floor is added to the strength
        :param x: batch of model inputs
        :param given: the first answer, where it is known already, :math:`B \\times C`
        :return: both answers, scores and p-values
        :raises PurifierError: if the purifier gives another shape or NaN
        """
        purification = Purification(answers, self.residue, self.pixels, follow, self.duals)
        if given is None:
            first, floors = purification.first(x)
        else:
            first, floors = given, purification.floors(x)
        try:
            second, strengths = purification.second(
                x, floors, self.choice.purifier, self.choice.strength
            )
        except PurifierError as error:
            error.first = first
            raise
        known = self.known.to(first.device)
        scores = self.reference.to(first.device).scores(first, second)
        overruled = known.overruled(first, second)
        return Comparison(first, second, strengths, scores, known.p_values(scores), overruled)

    def state_dict(self) -> dict[str, Any]:
        """
        :return: the fields as plain tensors, numbers and texts
        :raises TypeError: if the purifier is a function
        """
        if not isinstance(self.choice.purifier, str):
            raise TypeError(
                "A SecondLook whose purifier is a function has no state of plain tensors. Store "
                "it with pickle, or choose a purifier by name."
            )
        return {
            "choice": asdict(self.choice),
            "duals": self.duals.cpu(),
            "pixels": {"low": self.pixels.low.cpu(), "high": self.pixels.high.cpu()},
            "reference": self.reference.to(torch.device("cpu")).tensors(),
            "known": self.known.to(torch.device("cpu")).tensors(),
            "residue": self.residue.state_dict(),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any], residue: ViyogResidue) -> "FittedLook":
        """:return: what :meth:`state_dict` gave, with a detector that takes that of its residue"""
        loaded = cls(
            residue,
            PixelRange(**state["pixels"]),
            state["duals"],
            Choice(**state["choice"]),
            Reference(**state["reference"]),
            KnownAnswers(state["known"]["score"], state["known"]["least"]),  # older ones hold more
        )
        residue.load_state_dict(state["residue"])
        return loaded
