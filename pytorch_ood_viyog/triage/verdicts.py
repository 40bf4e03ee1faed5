"""
What a fitted triage says about inputs.
"""

from typing import Any

import torch
from pytorch_ood.api import RequiresFittingException
from torch import Tensor
from torch.nn import Module

from ..detectors.residue import ViyogResidue
from ..detectors.same_way import SameWay
from ..images.ways import Through
from ..layer.checks import check_input
from ..looks.logits import Answers
from ..pipeline.shared_forward import SharedForward
from .explanation import Explanation, explanation
from .fitted_triage import FittedTriage
from .rule.evidence import Reading, read

__all__ = ["Verdicts"]


class Verdicts:
    """Verdicts, their probabilities, and what is behind them, of settings and a fit."""

    pipeline: SharedForward
    residue: ViyogResidue
    answers: Answers
    id_fpr: float
    noisy_fpr: float
    look: str
    ask_share: float
    simulate_on: int
    held_out: float
    leave_out: tuple[str, ...]
    through: Through | None
    pixel_range: Any
    seed: int
    _fitted: FittedTriage | None

    @property
    def model(self) -> Module:
        """The classifier."""
        return self.pipeline.model

    @property
    def fitted(self) -> FittedTriage:
        """
        What the fit found.

        :raises RequiresFittingException: before fitting
        """
        if self._fitted is None:
            raise RequiresFittingException("Triage is not fitted. Call fit() first.")
        return self._fitted

    @property
    def drift(self) -> SameWay:
        """
        Whether a set or a stream of images comes the way of the calibration images:
        ``triage.drift.check(images)``, ``triage.drift.update(batch)``.

        :raises RequiresFittingException: before fitting
        """
        return self.fitted.drift

    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: verdicts of shape :math:`B`, the values of :class:`Verdict` as int64
        :raises RequiresFittingException: if the triage is not fitted
        :raises ValueError: if ``x`` is not finite
        """
        return self.fitted.thresholds.verdicts(self.log_odds(x))

    def posterior(self, x: Tensor) -> Tensor:
        """
        :param x: as for :meth:`predict`
        :return: probabilities of ID, OOD, ADV and NOISY, :math:`B \\times 4`, where all four are
            equally frequent and simulated as at fit
        """
        return self.log_odds(x).softmax(dim=1)

    @torch.no_grad()
    def log_odds(self, x: Tensor) -> Tensor:
        """
        :param x: as for :meth:`predict`
        :return: log-odds :math:`z` of ID, OOD, ADV and NOISY up to one constant a sample,
            :math:`B \\times 4`, float64
        """
        if len(x) == 0:  # neighbours of nothing are refused by scikit-learn
            self.fitted  # noqa: B018
            return torch.zeros(0, 4, dtype=torch.float64)
        return self.read(x).z

    @torch.no_grad()
    def explain(self, x: Tensor) -> Explanation:
        """
        :param x: as for :meth:`predict`
        :return: verdicts, and which evidence spoke for what
        """
        return explanation(self.read(x), self.fitted.rule, self.fitted.thresholds)

    def read(self, x: Tensor) -> Reading:
        """
        :param x: as for :meth:`predict`
        :return: evidence and log-odds, with gradients where they are on
        """
        fitted = self.fitted
        x = check_input(x).to(self.answers.device)
        return read(self, fitted.rule, self.look, fitted.pixels, x)
