"""
Models with detectors, or with a whole Triage, as modules from one tensor to named tensors.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from ..layer.manners import unwrap
from ..pipeline.feeding import trial_copy
from ..pipeline.shared_pass import Representations
from ..triage.triage import Triage
from ..triage.verdict import Verdict
from .scored_model import ScoredModel, with_score
from .stand_ins import Slot, WatchedLayer, put_in_place
from .verdict_rule import VerdictRule

__all__ = ["Graph", "ScoresGraph", "TriageGraph"]

PickLogits = Callable[[Any], Tensor]


class Graph(Module):
    """From a batch of inputs to outputs that have names."""

    #: names of the outputs, in their order
    names: Sequence[str]
    #: what a reader of the file needs to know, as numbers, texts and lists of them
    metadata: Mapping[str, Any]

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """
        :param x: batch of model inputs
        :return: one tensor per name
        """

    def concluded(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        :param outputs: name -> what somebody else found for these inputs
        :return: name -> what follows from others of these by comparisons, where an error of
            rounding may change the result; what is found here must be equal
        """
        return {}


class ScoresGraph(Graph):
    """Outputs ``logits``, and ``score`` or for several detectors ``score_NAME``."""

    def __init__(
        self,
        model: Module,
        detector: FirstLayerDetector | Mapping[str, FirstLayerDetector],
        *,
        layer: str | Module | None = None,
        logits: PickLogits | None = None,
        thresholds: float | Mapping[str, float] | None = None,
    ):
        """
        :param model: model, which is copied
        :param detector: fitted detector, or several by name
        :param layer: layer to read
        :param logits: picks the logits out of the model's output
        :param thresholds: score above which a detector raises an alarm, one number or by name
        :raises ValueError: if thresholds are not those of the detectors, or as ``with_score``
        """
        super().__init__()
        self.scored = with_score(model, detector, layer=layer)
        self.pick = logits
        several = isinstance(detector, Mapping)
        named = dict(detector) if isinstance(detector, Mapping) else {"": detector}
        outputs = {name: f"score_{name}" if several else "score" for name in named}
        limits = thresholds if isinstance(thresholds, Mapping) else {"": thresholds}
        limits = {name: float(limit) for name, limit in limits.items() if limit is not None}
        if not set(limits) <= set(named):
            raise ValueError(
                f"thresholds must be {f'by the names {[*named]}' if several else 'one number'}, "
                f"got {thresholds!r}."
            )
        self.names = ["logits", *outputs.values()]
        self.metadata = {
            "detectors": {outputs[name]: type(each).__name__ for name, each in named.items()},
            "thresholds": {outputs[name]: limit for name, limit in limits.items()},
        }

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """
        :param x: batch of model inputs
        :return: logits, and scores of each detector
        """
        output, scores = self.scored(x)
        picked = output if self.pick is None else self.pick(output)
        return picked, *(scores.values() if isinstance(scores, dict) else (scores,))


class TriageGraph(Graph):
    """
    Outputs ``logits``, ``verdict``, and for each detector and signal ``score_NAME`` and
    ``p_NAME``. Where the input is not finite, the verdict is OOD.
    """

    def __init__(self, triage: Triage):
        """
        :param triage: fitted triage, whose model is copied
        :raises RequiresFittingException: if it is not fitted
        :raises TypeError: if one of its detectors does not go into a graph
        """
        super().__init__()
        calibration = triage.calibration
        pipeline, panel = triage.pipeline, triage.pipeline._panel
        _check_intakes(triage)
        first = panel.first_layer
        layer = pipeline._pass.layer_name or pipeline._pass._require_first_layer().name
        assert layer is not None, "a fitted triage has run its first layer"
        self.scored = ScoredModel(unwrap(pipeline.model), first, layer)
        self.pick = pipeline._pass.logits
        self.detectors = {name: trial_copy(pipeline[name]) for name in panel.fed}
        self.fed = dict(panel.fed)
        self.rule = VerdictRule(calibration, *triage.rule)
        self._features = self._watch_head(pipeline._pass.head_name) if self._reads_head else None
        self.scoring, self.signals = list(pipeline.detectors), list(calibration.scores)
        self.names = ["logits", "verdict"] + [f"score_{n}" for n in self.signals]
        self.names += [f"p_{name}" for name in self.signals]
        self.metadata = {
            "detectors": {f"score_{n}": type(d).__name__ for n, d in pipeline.detectors.items()},
            "thresholds": {f"score_{n}": v for n, v in calibration.thresholds.items()},
            "required": {f"score_{n}": limit for n, limit in triage._required.items()},
            "verdicts": {verdict.name: int(verdict) for verdict in Verdict},
        }

    @property
    def _reads_head(self) -> bool:
        return any(entry.representation == "features" for entry in self.fed.values())

    def _watch_head(self, name: str | None) -> Slot[Tensor]:
        assert name is not None, "a fitted triage has run its head"
        head = self.scored.model.get_submodule(name)
        watched = WatchedLayer(head)
        put_in_place(self.scored.model, head, watched)
        return watched.slot

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """
        :param x: batch of model inputs
        :return: logits, verdicts, scores and p-values
        """
        output, scores = self.scored(x)
        logits = output if self.pick is None else self.pick(output)
        features = None if self._features is None else self._features.take()
        seen = Representations(logits, None if features is None else features.flatten(1))
        fed = {n: entry.predict(self.detectors[n], x, seen) for n, entry in self.fed.items()}
        verdict, known, p_values = self.rule(fed | scores)
        return (
            logits,
            verdict,
            *(known[name] for name in self.signals),
            *(p_values[name] for name in self.signals),
        )

    def concluded(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        :param outputs: name -> what somebody else found for these inputs
        :return: verdicts, fused scores and p-values that follow from its scores
        """
        raw = {name: outputs[f"score_{name}"] for name in self.scoring}
        verdict, known, p_values = self.rule(raw)
        fused = {f"score_{n}": known[n] for n in self.signals if n not in self.scoring}
        return {"verdict": verdict} | fused | {f"p_{n}": p_values[n] for n in self.signals}


def _check_intakes(triage: Triage) -> None:
    panel = triage.pipeline._panel
    if triage.confirm is not None:
        raise TypeError("A Triage with confirm= asks the model again, which no graph does.")
    for name in panel.looks:
        raise TypeError(f"Detector {name!r} asks the model again, which no graph does here.")
    for name in panel.separate:
        raise TypeError(f"Detector {name!r} runs by itself and does not go into one graph.")
    for name, entry in panel.fed.items():
        if entry.representation == "feature_maps":
            raise TypeError(f"Detector {name!r} takes feature maps, which no graph gives it yet.")
