"""
Fused: several detectors, one score, by their p-values among ID samples.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pytorch_ood.api import (
    Detector,
    DetectorInfo,
    ModelNotSetException,
    RequiresFittingException,
    Task,
)
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..fitting.held_by_content import HeldByContent
from ..layer.batches import in_batches
from ..layer.checks import check_count, check_input, check_number
from ..layer.manners import same_random_state
from ..looks.surprise import surprise
from ..pipeline.saving import detector_state, load_detector_state
from ..pipeline.shared_forward import SharedForward

__all__ = ["Fused"]

# enough for the tail of a score, and little memory
_MOST_HELD_OUT = 1000


class Fused(Detector):  # type: ignore[misc]
    """
    A detector made of several. Each score becomes its surprise :math:`-\\ln p_j` among ID samples
    that no detector was fitted on, see :func:`~pytorch_ood_viyog.looks.surprise.surprise`, so that
    scores of any scale can be put together:

    .. math::
        s(x) = \\sum_j -\\ln p_j \\quad \\text{(Fisher)}, \\qquad
        s(x) = \\frac{1}{\\sqrt{k}} \\sum_{j=1}^{k} \\Phi^{-1}(1 - p_j) \\quad \\text{(Stouffer)}

    Fisher's sum is large where *one* detector is very surprised: attacks that one of them sees are
    not lost for the others not seeing them. Stouffer's also counts what is *less* usual than ID
    downwards. The scores of all detectors come from one shared forward pass.

    **Sign.** Larger for whatever the detectors score high: ADV for those of this package.

    **When to use.** As gate or router of a :class:`~pytorch_ood_viyog.triage.triage.Triage`, or
    alone. ``{"residue": ViyogResidue(None), "look": SecondLook(None)}`` see different attacks: the
    residue strong ones, the look the smooth and the minimal ones.

    .. rubric:: Examples

    .. code-block:: python

        fused = Fused(model, {"residue": ViyogResidue(None), "look": SecondLook(None)})
        fused.fit(train_loader)
        scores = fused(images)
        print(fused.scores(images)["look"])

    :see: Fisher, *Statistical Methods for Research Workers*, 1925; Stouffer et al., *The American
        Soldier*, 1949
    """

    requires_fit = True
    info = DetectorInfo(paper=None, tasks={Task.CLASSIFICATION}, ai_coded=True)
    hyperparameter_space: ClassVar[dict[str, list[object]]] = {"method": ["fisher", "stouffer"]}

    def __init__(
        self,
        model: Module | None,
        detectors: Mapping[str, Detector],
        *,
        method: Literal["fisher", "stouffer"] = "fisher",
        held_out: float = 0.2,
        seed: int = 0,
        **shared: Any,
    ):
        """
        :param model: model that all detectors judge
        :param detectors: detectors by name, built with ``None`` or with this model
        :param method: how p-values are put together
        :param held_out: share of the ID data that the detectors are compared on instead of being
            fitted to, at most 1,000 samples
        :param seed: seed of the choice of these samples
        :param shared: further arguments of :class:`SharedForward`, such as ``logits`` or
            ``separate``
        :raises TypeError: if a detector cannot be fed from the shared pass
        :raises ValueError: if an argument is out of range, or names do not fit
        """
        self.model = model  # first: pytorch-ood reads the device off the first attribute with one
        self.method = method
        self.held_out = check_number("held_out", held_out, low=1e-3, high=0.9)
        self.seed = check_count("seed", seed, low=0)
        self.pipeline = None if model is None else SharedForward(model, detectors, **shared)
        self._reference: dict[str, Tensor] | None = None
        fitted = {name: getattr(each, "_is_fitted", False) for name, each in detectors.items()}
        self._names = [name for name in detectors if not fitted[name]]

    @property
    def method(self) -> str:
        """How p-values are put together, ``"fisher"`` or ``"stouffer"``."""
        return self._method

    @method.setter
    def method(self, value: str) -> None:
        if value not in ("fisher", "stouffer"):
            raise ValueError(f"method must be 'fisher' or 'stouffer', got {value!r}.")
        self._method = value

    def fit(
        self,
        data_loader: Iterable[Any],
        calibration_loader: Iterable[Any] | None = None,
        *,
        progress: bool = True,
    ) -> Self:
        """
        Fit the detectors, and compare them on ID samples that they were not fitted on. Detectors
        of this package that were fitted before they came here stay as they are.

        :param data_loader: ID data, yields ``(x, y)``; samples with label :math:`< 0` are left out
        :param calibration_loader: ID data to compare on; without it, ``held_out`` of
            ``data_loader``, chosen by content, so that neither order nor batches matter
        :param progress: show progress bars where a pass takes more than a second
        :return: the fitted detector
        :raises ModelNotSetException: if there is no model
        :raises ValueError: if there are no ID samples, or too few to hold any out
        :raises RuntimeError: if a detector's own fit fails
        """
        pipeline = self._require_pipeline()
        if calibration_loader is not None:
            if self._names:
                pipeline.fit(data_loader, names=self._names, progress=progress)
            self._reference = self._compared(calibration_loader, progress)
            return self
        parts = HeldByContent(data_loader, self.held_out, _MOST_HELD_OUT, self.seed)
        if self._names:
            pipeline.fit(parts, names=self._names, progress=progress)
        if not parts.was_read:  # nobody had to be fitted
            with same_random_state(self.model):
                for _ in parts:
                    pass
        self._reference = self._compared(in_batches(parts.held()), progress)
        return self

    def _compared(self, loader: Iterable[Any], progress: bool) -> dict[str, Tensor]:
        pipeline = self._require_pipeline()
        table = pipeline.score(loader, progress=progress)
        labels = table.get("labels")
        known = slice(None) if labels is None else labels >= 0
        scores = {name: table[name][known].double() for name in pipeline.detectors}
        return {name: values.sort().values for name, values in scores.items()}

    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: fused scores of shape :math:`B`, float64
        :raises ModelNotSetException: if there is no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: if ``x`` is not finite
        """
        return self.fuse(self.scores(x))

    def fuse(self, scores: Mapping[str, Tensor]) -> Tensor:
        """
        :param scores: detector -> its own scores, where they are known already, shape :math:`B`
        :return: what :meth:`predict` gives
        :raises RequiresFittingException: if the detector is not fitted
        """
        surprises = self._surprises(scores)
        if self.method == "fisher":
            return torch.stack(list(surprises.values())).sum(dim=0)
        smallest = torch.finfo(torch.float64).tiny
        p_values = [(-values).exp().clamp(smallest, 1 - 1e-9) for values in surprises.values()]
        quantiles = [-torch.special.ndtri(p) for p in p_values]
        return torch.stack(quantiles).sum(dim=0) / math.sqrt(len(quantiles))

    def surprises(self, x: Tensor) -> dict[str, Tensor]:
        """
        :param x: as for :meth:`predict`
        :return: detector -> :math:`-\\ln p_j` among ID samples, shape :math:`B`
        :raises RequiresFittingException: if the detector is not fitted
        """
        return self._surprises(self.scores(x))

    def _surprises(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self._reference is None:
            raise RequiresFittingException
        return {
            name: surprise(known.to(scores[name].device), scores[name].double())
            for name, known in self._reference.items()
        }

    def scores(self, x: Tensor) -> dict[str, Tensor]:
        """
        :param x: as for :meth:`predict`
        :return: detector -> its own scores, shape :math:`B`
        :raises RequiresFittingException: if a detector is not fitted
        """
        return self._require_pipeline().predict(check_input(x))

    def state_dict(self) -> dict[str, Any]:
        """
        :return: the detectors' states and the ID scores, as plain tensors and numbers
        :raises RequiresFittingException: if the detector is not fitted
        :raises TypeError: if a detector keeps its state in other objects
        """
        detectors = self._require_pipeline().detectors.items()
        if self._reference is None:
            raise RequiresFittingException
        return {
            "class": type(self).__name__,
            "method": self.method,
            "detectors": {name: detector_state(name, each) for name, each in detectors},
            "reference": {name: values.cpu() for name, values in self._reference.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Self:
        """
        :param state: what :meth:`state_dict` of a detector built alike gave
        :return: the fitted detector
        :raises ValueError: if it is the state of another class, or of other detectors
        """
        detectors = self._require_pipeline().detectors
        built = (type(self).__name__, sorted(detectors))
        stored = (state.get("class"), sorted(state.get("detectors", {})))
        if built != stored:
            raise ValueError(f"state must belong to {built}, got one of {stored}.")
        for name, detector in detectors.items():
            load_detector_state(detector, state["detectors"][name])
        self.method, self._reference = state["method"], dict(state["reference"])
        return self

    def _require_pipeline(self) -> SharedForward:
        if self.pipeline is None:
            raise ModelNotSetException("Fused has no model. Pass it to the constructor.")
        return self.pipeline

    def __repr__(self) -> str:
        names = None if self.pipeline is None else list(self.pipeline.detectors)
        return f"Fused(detectors={names}, method={self.method!r}, fitted={self._is_fitted})"

    @property
    def _is_fitted(self) -> bool:
        return self._reference is not None
