"""
OOD-versus-ADV metrics on pytorch-ood's metric code: ADV (label < 0) is the positive class.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pytorch_ood.metrics import BufferedMetric
from pytorch_ood.metrics import functional as F  # noqa: N812 (pytorch-ood's own name for it)
from torch import Tensor
from typing_extensions import Self

__all__ = ["ADV", "OOD", "ViyogMetrics", "viyog_metrics"]

#: label of out-of-distribution samples
OOD = 1
#: label of adversarial samples, negative and so the positive class of pytorch-ood's metrics
ADV = -1

Scores = Tensor | np.ndarray[Any, Any] | Sequence[float]


class ViyogMetrics(BufferedMetric):  # type: ignore[misc]
    """
    How well scores separate adversarial from out-of-distribution inputs, fed batch by batch.

    ADV (label -1) is the positive class, OOD (label 1) the negative one, and larger scores mean
    more likely ADV. :meth:`compute` returns

    - ``AUROC``: probability that an ADV sample has a larger score than an OOD one, ties half
    - ``AUPR_OOD``, ``AUPR_ADV``: area under the precision-recall curve (trapezoidal) with OOD and
      ADV as the class to find
    - ``FPR95``: share of OOD samples above the threshold that catches 95 % of the ADV samples
    - ``DetectionError``: :math:`\\min_\\tau \\frac{1}{2} (FPR(\\tau) + FNR(\\tau))`, the error at
      the best threshold where OOD and ADV are equally frequent
    - ``AUFPR``, ``AUFNR``: areas under the false positive and false negative rate over all
      thresholds, scores scaled to [0, 1]; ``AUTC`` is their mean. Lower is better. NaN, with a
      warning, where scores are constant or infinite.

    The metric can be part of a ``pytorch_ood.metrics.MetricCollection``. ID samples have no place
    in it: give them label 0 and set ``void_label=0``.

    .. rubric:: Examples

    .. code-block:: python

        metrics = ViyogMetrics()
        metrics.update(detector(ood_images), torch.ones(len(ood_images)))
        metrics.update(detector(adv_images), -torch.ones(len(adv_images)))
        print(metrics.compute())

    :see Paper: `AUTC (arXiv 2306.14658) <https://arxiv.org/pdf/2306.14658>`__
    """

    inputs = ("scores", "labels")
    needs_id = True
    needs_ood = True

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the metrics that :meth:`compute` returns."""
        return (
            "AUROC",
            "AUPR_OOD",
            "AUPR_ADV",
            "FPR95",
            "DetectionError",
            "AUTC",
            "AUFPR",
            "AUFNR",
        )

    def update(self, scores: Tensor, labels: Tensor) -> Self:
        """
        Add a batch.

        :param scores: scores of any shape; larger means more likely ADV
        :param labels: labels of the same shape, OOD = 1 and ADV = -1
        :return: self
        :raises TypeError: if an input is not a tensor
        :raises ValueError: if the shapes differ
        """
        super().update(scores, labels)
        return self

    def compute(self) -> dict[str, float]:
        """
        Compute all metrics from the batches added so far.

        :return: the values by name, see above
        :raises ValueError: if there is no data, only one class, another label than 1 and those
            below 0, or a score is NaN
        """
        values: dict[str, float] = super().compute()
        return values

    def _compute_from(self, data: Any) -> dict[str, Tensor]:
        scores, labels = data["scores"], data["labels"]
        strange = labels[(labels >= 0) & (labels != OOD)].unique().tolist()
        if strange:
            raise ValueError(
                f"labels must be {OOD} (OOD) or {ADV} (ADV), got {strange}. Leave other samples "
                f"out; ID samples of label 0 are ignored with ViyogMetrics(void_label=0)."
            )
        fpr, tpr, _ = F.roc_curve(scores, labels)
        aufpr, aufnr = _threshold_areas(scores, labels < 0)
        return {
            "AUROC": F.auroc(scores, labels),
            "AUPR_OOD": F.aupr(scores, labels, positive="id"),
            "AUPR_ADV": F.aupr(scores, labels, positive="ood"),
            "FPR95": F.fpr_at_tpr(scores, labels, tpr=0.95),
            "DetectionError": ((fpr + 1 - tpr) / 2).min(),
            "AUTC": (aufpr + aufnr) / 2,
            "AUFPR": aufpr,
            "AUFNR": aufnr,
        }


def viyog_metrics(ood_scores: Scores, adv_scores: Scores) -> dict[str, float]:
    """
    How well scores separate adversarial from out-of-distribution inputs, all at once.

    :param ood_scores: scores of OOD samples
    :param adv_scores: scores of ADV samples; larger means more likely ADV
    :return: the values that :class:`ViyogMetrics` describes, by name
    :raises TypeError: if the scores are not numbers
    :raises ValueError: if one of them is empty or contains NaN
    """
    ood, adv = _scores("ood_scores", ood_scores), _scores("adv_scores", adv_scores)
    labels = torch.cat([torch.full_like(ood, OOD), torch.full_like(adv, ADV)])
    return ViyogMetrics().update(torch.cat([ood, adv]), labels).compute()


def _scores(name: str, scores: Scores) -> Tensor:
    if isinstance(scores, np.ndarray):
        scores = scores.copy()  # torch takes neither negative strides nor read-only memory
    try:
        values = torch.as_tensor(scores).detach().to("cpu", torch.float64).flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be a tensor, an array or a list of numbers, got {type(scores).__name__}"
        ) from error
    if values.numel() == 0:
        raise ValueError(f"{name} is empty. Metrics need scores of both classes.")
    if bool(values.isnan().any()):
        indices = values.isnan().nonzero().flatten().tolist()
        raise ValueError(f"{name} contains NaN at {indices[:20]}.")
    return values


def _threshold_areas(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """The two halves of ``pytorch_ood.metrics.functional.autc``, by its formula."""
    scores = scores.double()
    low, high = scores.min(), scores.max()
    if not bool(torch.isfinite(high - low)) or bool(low == high):
        warnings.warn("AUTC is undefined for constant or infinite scores: NaN", stacklevel=3)
        undefined = torch.full_like(low, float("nan"))
        return undefined, undefined
    scaled = (scores - low) / (high - low)
    return scaled[~positive].mean(), 1 - scaled[positive].mean()
