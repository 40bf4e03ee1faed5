"""
ShiftStability: does the model stand by its answer when the image moves by a pixel?
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pytorch_ood.api import DetectorInfo, Task
from torch import Tensor
from torch.nn import Module, functional

from ...layer.checks import check_count
from ..logits import PickLogits
from ..second_pass import SecondPass

__all__ = ["SHIFTS", "ShiftStability", "moved"]

#: by how many pixels to the right and down
SHIFTS = ((1, 0), (0, 1), (1, 1), (-1, -1), (2, 1), (-1, 2), (2, -3), (3, 2))
# to the left and up
_FURTHEST = 10**6


class ShiftStability(SecondPass):
    """
    The mean surprise at the model's own answer :math:`c = \\arg\\max_k l(x)_k`, for the image and
    for the image moved by :math:`n` shifts :math:`T_j` of a few whole pixels:

    .. math::
        s(x) = -\\frac{1}{n + 1} \\sum_{j=0}^{n} \\ln \\mathrm{softmax}(l(T_j x))_c,
        \\qquad T_0 x = x

    Networks that leave pixels out (strides, pooling) see another part of a perturbation after
    each shift, and about the same object. An attacker who knows it has to be sure in all of them.
    Needs no fit, and :math:`n + 1` forward passes; borders are mirrored.

    **Sign.** Larger scores speak for ADV; whatever lies near a decision boundary scores high, OOD
    inputs too.

    **When to use.** As third partner of
    :class:`~pytorch_ood_viyog.triage.fused.Fused`, beside
    :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue` and
    :class:`~pytorch_ood_viyog.looks.second_look.SecondLook`, where an attacker may know the
    detector: it raises what that costs them (guide *The price of evasion*). Alone it does not.

    .. rubric:: Examples

    .. code-block:: python

        parts = {"residue": ViyogResidue(None), "look": SecondLook(None)}
        fused = Fused(model, parts | {"shifts": ShiftStability(None)}).fit(train_loader)
        scores = fused(images)

    :see: that shifts change answers: Zhang, *Making Convolutional Networks Shift-Invariant Again*,
        ICML 2019
    """

    info = DetectorInfo(paper=None, tasks={Task.CLASSIFICATION}, ai_coded=True)

    #: Default search space for :class:`pytorch_ood.utils.GridSearch`.
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {"shifts": [SHIFTS[:4], SHIFTS]}

    def __init__(
        self,
        model: Module | None,
        *,
        shifts: Sequence[tuple[int, int]] = SHIFTS,
        layer: str | Module | None = None,
        logits: PickLogits | None = None,
    ):
        """
        :param model: classifier of images, (B, C, H, W); ``None`` where a pipeline gives it
        :param shifts: pixels to the right and down, of each :math:`T_j`
        :param layer: not read; taken as all detectors of this kind do
        :param logits: picks the logits out of the model's output
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if there are no shifts
        """
        super().__init__(model, layer=layer, logits=logits)
        self.shifts = shifts

    @property
    def shifts(self) -> tuple[tuple[int, int], ...]:
        """Pixels to the right and down."""
        return self._shifts

    @shifts.setter
    def shifts(self, value: Sequence[tuple[int, int]]) -> None:
        pairs = [tuple(pair) for pair in value]
        if not pairs or any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"shifts must be pairs of pixels, at least one, got {value!r}.")
        for pixels in (pixels for pair in pairs for pixels in pair):
            check_count("shifts", pixels, low=-_FURTHEST)
        self._shifts = tuple((right, down) for right, down in pairs)

    def _score(self, x: Tensor, first: Tensor) -> Tensor:
        self._check_size(x)
        if len(x) == 0:
            return first.new_zeros(0, dtype=torch.float64)
        answer, answers = first.argmax(dim=1, keepdim=True), self._require_answers()
        surprises = [_surprise(first, answer)]
        for right, down in self.shifts:
            surprises.append(_surprise(answers.logits(moved(x, right, down)), answer))
        return torch.stack(surprises).mean(dim=0)

    def _check_size(self, x: Tensor) -> None:
        most = max(abs(pixels) for pair in self.shifts for pixels in pair)
        if x.dim() != 4 or min(x.shape[2:]) <= most:
            raise ValueError(
                f"ShiftStability takes images of shape (B, C, H, W), larger than the largest of "
                f"its shifts, {most} pixels, got {tuple(x.shape)}."
            )


def moved(x: Tensor, right: int, down: int) -> Tensor:
    """
    :param x: images, (B, C, H, W)
    :param right: pixels to the right, negative to the left
    :param down: pixels down, negative up
    :return: moved images, what comes in at the border is mirrored
    """
    height, width = x.shape[2:]
    edge = max(abs(right), abs(down))
    padded = functional.pad(x, (edge,) * 4, mode="reflect")
    top, left = edge - down, edge - right
    return padded[..., top : top + height, left : left + width]


def _surprise(logits: Tensor, answer: Tensor) -> Tensor:
    exact = logits.float() if logits.device.type == "mps" else logits.double()
    return -exact.log_softmax(dim=1).gather(1, answer).squeeze(1)
