"""
TriageLDA: verdicts from a linear discriminant, for users who have labelled OOD and ADV data.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from pytorch_ood.api import Detector, RequiresFittingException
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..layer.batches import first_inputs, in_batches
from ..layer.checks import check_finite
from .explanation import Explanation
from .verdict import Verdict
from .verdict_giver import VerdictGiver

__all__ = ["TriageLDA"]


class TriageLDA(VerdictGiver):
    """
    The supervised counterpart of :class:`~pytorch_ood_viyog.triage.triage.Triage`: scikit-learn's
    linear discriminant analysis with equal priors on the detectors' scores :math:`s`. The verdict
    is the class with the largest

    .. math:: w_k^{\\top} s + b_k, \\qquad k \\in \\{ID, OOD, ADV, NOISY\\}

    It needs labelled OOD and ADV samples (and NOISY ones, to know these), knows the kinds it was
    shown, and bounds no rate of false alarms.

    .. rubric:: Examples

    .. code-block:: python

        triage = TriageLDA(model, {"energy": EnergyBased(None), "tv": ViyogTV(None)})
        triage.fit(train_loader, id_images, ood_images, adv_images)
        verdicts = triage.predict(images)
    """

    def __init__(self, model: Module, detectors: Mapping[str, Detector], **shared: Any):
        """
        :param model: model that all detectors judge
        :param detectors: detectors by name
        :param shared: further arguments of :class:`SharedForward`, such as ``logits`` or ``head``
        """
        super().__init__(model, detectors, **shared)
        self._weights: Tensor | None = None
        self._bias: Tensor | None = None

    def fit(
        self,
        train_loader: Iterable[Any],
        id: Tensor | Iterable[Any],
        ood: Tensor | Iterable[Any],
        adv: Tensor | Iterable[Any],
        *,
        noisy: Tensor | Iterable[Any] | None = None,
        progress: bool = True,
    ) -> Self:
        """
        Fit those detectors that are not fitted yet, then the discriminant.

        :param train_loader: ID data to fit the detectors on, yields ``(x, y)``
        :param id: further ID inputs, as tensor or loader
        :param ood: OOD inputs
        :param adv: adversarial inputs; use only attacks that fool the model
        :param noisy: ID inputs with benign changes; without them, no verdict is NOISY
        :param progress: show progress bars where a pass takes more than a second
        :return: the fitted triage
        :raises ValueError: if there are fewer than two samples of a class, or a score is not
            finite
        """
        names = self.pipeline.unfitted(first_inputs(train_loader, self.pipeline.model))
        self._fit_detectors(train_loader, names, progress)
        given = {Verdict.ID: id, Verdict.OOD: ood, Verdict.ADV: adv}
        given |= {} if noisy is None else {Verdict.NOISY: noisy}
        parts = {
            verdict: self._stack(self.pipeline.score(in_batches(inputs), progress=progress))
            for verdict, inputs in given.items()
        }
        for verdict, scores in parts.items():
            check_finite(f"Scores of {verdict.name} samples", scores)
            if len(scores) < 2:
                raise ValueError(f"{verdict.name} needs two or more samples, got {len(scores)}.")
        features = torch.cat(list(parts.values())).numpy()
        labels = np.repeat([int(v) for v in parts], [len(part) for part in parts.values()])
        lda = LinearDiscriminantAnalysis(priors=np.full(len(parts), 1 / len(parts))).fit(
            features, labels
        )
        order = [list(lda.classes_).index(int(verdict)) for verdict in parts]
        weights, bias = lda.coef_[order], lda.intercept_[order]
        self._weights, self._bias = torch.from_numpy(weights), torch.from_numpy(bias)
        return self

    def decision(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: :math:`w_k^{\\top} s + b_k`, shape :math:`B \\times 3` or, fitted with noisy
            samples, :math:`B \\times 4`; classes in the order of :class:`Verdict` (ID, OOD, ADV,
            NOISY), float64 on the CPU
        :raises RequiresFittingException: before fitting
        """
        weights, bias = self._discriminant
        return self._stack(self.pipeline.predict(x)) @ weights.T + bias

    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: verdicts of shape :math:`B`, the values of :class:`Verdict` as int64
        :raises RequiresFittingException: before fitting
        """
        return self.explain(x).verdicts

    def explain(self, x: Tensor) -> Explanation:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: verdicts, and the scores behind them; there are no thresholds
        :raises RequiresFittingException: before fitting
        """
        weights, bias = self._discriminant
        scores = {name: s.double().cpu() for name, s in self.pipeline.predict(x).items()}
        order = torch.tensor([int(verdict) for verdict in Verdict])
        verdicts = order[(self._stack(scores) @ weights.T + bias).argmax(dim=1)]
        return Explanation(verdicts, scores, p_values={}, thresholds={})

    @property
    def _discriminant(self) -> tuple[Tensor, Tensor]:
        """Weights and bias."""
        if self._weights is None or self._bias is None:
            raise RequiresFittingException("TriageLDA is not fitted. Call fit() first.")
        return self._weights, self._bias

    def _stack(self, table: Mapping[str, Tensor]) -> Tensor:
        columns = [table[name].double().cpu() for name in self.pipeline.detectors]
        return torch.stack(columns, dim=1)

    def _rule_state(self) -> dict[str, Any]:
        weights, bias = self._discriminant
        return {"weights": weights, "bias": bias}

    def _load_rule(self, state: dict[str, Any]) -> None:
        self._weights, self._bias = state["weights"], state["bias"]

    def __repr__(self) -> str:
        fitted = self._weights is not None
        return f"TriageLDA({self.pipeline!r}, fitted={fitted})"
