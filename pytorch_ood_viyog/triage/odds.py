"""
AdversarialOdds: how much all the evidence speaks for an attack, as a detector.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from pytorch_ood.api import Detector, DetectorInfo, ModelNotSetException, Task
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from .populations.verdict import ORDER, Verdict
from .triage import Triage

__all__ = ["AdversarialOdds"]


class AdversarialOdds(Detector):  # type: ignore[misc]
    """
    The log-odds of ADV against everything else in a
    :class:`~pytorch_ood_viyog.triage.triage.Triage`, as a score beside those of other detectors:

    .. math:: s(x) = z_{ADV} - \\ln \\sum_{v \\neq ADV} e^{z_v}

    **Sign.** Larger for ADV; 0 where it is as likely as all others together.

    .. rubric:: Examples

    .. code-block:: python

        detector = AdversarialOdds(model).fit(train_loader, calibration_loader)
        scores = detector(images)
    """

    requires_fit = True
    info = DetectorInfo(paper=None, tasks={Task.CLASSIFICATION}, ai_coded=True)
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {"look": ["open", "always"]}

    def __init__(self, model: Module | Triage | None, **options: Any):
        """
        :param model: classifier, or a triage, fitted or not
        :param options: arguments of :class:`Triage` where a classifier is given
        :raises ModelNotSetException: if it is ``None``
        :raises TypeError: if it is neither
        :raises ValueError: if options come with a triage
        """
        if model is None:
            raise ModelNotSetException("AdversarialOdds has no model. Pass one, or a Triage.")
        if isinstance(model, Triage) and options:
            raise ValueError(f"A triage has its own {sorted(options)}; leave the arguments out.")
        triage = model if isinstance(model, Triage) else Triage(model, **options)
        self.model = triage.model  # first: pytorch-ood reads the device off it
        self.triage = triage

    @property
    def look(self) -> str:
        """When the model is asked again, see :class:`Triage`."""
        return self.triage.look

    @look.setter
    def look(self, value: Any) -> None:
        if value not in ("open", "always", "never"):
            raise ValueError(f"look must be 'open', 'always' or 'never', got {value!r}.")
        self.triage.look = value

    def fit(
        self,
        data_loader: Iterable[Any],
        calibration_loader: Iterable[Any] | None = None,
        *,
        progress: bool = True,
        max_images: int | None = None,
    ) -> Self:
        """
        :param data_loader: as for :meth:`Triage.fit`
        :param calibration_loader: as for :meth:`Triage.fit`; default: a share of the data is held
            out
        :param progress: show progress bars
        :param max_images: as for :meth:`Triage.fit`
        :return: the fitted detector
        :raises ValueError: as :meth:`Triage.fit`
        """
        self.triage.fit(data_loader, calibration_loader, progress=progress, max_images=max_images)
        return self

    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: scores of shape :math:`B`, larger for ADV
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: if ``x`` is not finite
        """
        z = self.triage.log_odds(x)
        adv = ORDER.index(Verdict.ADV)
        others = [place for place in range(len(ORDER)) if place != adv]
        scores: Tensor = z[:, adv] - z[:, others].logsumexp(dim=1)
        return scores
