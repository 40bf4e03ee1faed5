"""
Models with detectors, or with a whole Triage, as modules from one tensor to named tensors.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytorch_ood.detector import KNN
from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from ..layer.manners import unwrap
from ..looks.logits import usual_logits
from ..pipeline.feeding import trial_copy
from ..pipeline.shared_pass import Representations
from ..triage.populations.verdict import ORDER, Verdict
from ..triage.rule.evidence import FLAT, answer_numbers, second_look
from ..triage.rule.thresholds import ALARMS
from ..triage.triage import Triage
from .exportable import NearestFeatures, ShapeReading
from .scored_model import ScoredModel, with_score
from .stand_ins import Slot, WatchedLayer, put_in_place
from .verdict_rule import VerdictRule

__all__ = ["Graph", "ScoresGraph", "TriageGraph"]

PickLogits = Callable[[Any], Tensor]

# name of the residue's features among what the first layer gives
_SHAPE = "shape of the residue"


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
    Outputs ``logits``, ``verdict``, ``log_odds`` of ID, OOD, ADV and NOISY, and ``p_OOD``,
    ``p_ADV`` and ``p_NOISY``. Where the input is not finite, the verdict is OOD. A graph has no
    branches: the model runs again on every input, unless the triage has ``look="never"``.
    """

    def __init__(self, triage: Triage):
        """
        :param triage: fitted triage, whose model is copied
        :raises RequiresFittingException: if it is not fitted
        :raises TypeError: if one of its detectors does not go into a graph
        """
        super().__init__()
        self.rule = VerdictRule(triage.fitted)
        self.pixels = triage.fitted.pixels
        pipeline, panel = triage.pipeline, triage.pipeline._panel
        _check_intakes(triage)
        layer = pipeline._pass.layer_name or pipeline._pass._require_first_layer().name
        assert layer is not None, "a fitted triage has run its first layer"
        read = panel.first_layer | {_SHAPE: ShapeReading(triage.residue)}
        self.scored = ScoredModel(unwrap(pipeline.model), read, layer)
        self.pick = pipeline._pass.logits
        fed = {name: pipeline[name] for name in panel.fed}
        self.detectors = {
            name: NearestFeatures(each) if isinstance(each, KNN) else trial_copy(each)
            for name, each in fed.items()
        }
        self.fed = dict(panel.fed)
        self._features = self._watch_head(pipeline._pass.head_name)
        self.names = ["logits", "verdict", "log_odds"] + [f"p_{v.name}" for v in ALARMS]
        self.metadata = {
            "evidence": {name: type(d).__name__ for name, d in pipeline.detectors.items()},
            "thresholds": {},
            "log_odds": [verdict.name for verdict in ORDER],
            "verdicts": {verdict.name: int(verdict) for verdict in Verdict},
        }

    def _watch_head(self, name: str | None) -> Slot[Tensor]:
        assert name is not None, "a fitted triage has run its head"
        head = self.scored.model.get_submodule(name)
        watched = WatchedLayer(head)
        put_in_place(self.scored.model, head, watched)
        return watched.slot

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """
        :param x: batch of model inputs
        :return: logits, verdicts, log-odds and p-values
        """
        output, scores = self.scored(x)
        logits, features = self._picked(output), self._features.take()
        assert features is not None, "the head runs in every pass"
        features = features.flatten(1)
        seen = Representations(logits, features)
        shape = scores.pop(_SHAPE)
        numbers = self.rule.read(shape[:, :-1]) | {FLAT: shape[:, -1]}
        numbers |= answer_numbers(logits, features)
        numbers |= scores
        numbers |= {n: entry.predict(self.detectors[n], x, seen) for n, entry in self.fed.items()}
        if self.rule.look != "never":
            numbers |= second_look(self._again, self.pixels, x, logits)[0]
        verdict, z, p_values = self.rule({name: v.double() for name, v in numbers.items()})
        return logits, verdict, z, *p_values.values()

    def _again(self, x: Tensor) -> Tensor:
        logits = self._picked(self.scored.unscored(x))
        self._features.take()
        return logits

    def _picked(self, output: Any) -> Tensor:
        picked: Tensor = usual_logits(output) if self.pick is None else self.pick(output)
        return picked

    def concluded(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        :param outputs: name -> what somebody else found for these inputs
        :return: verdicts and p-values that follow from its log-odds
        """
        verdict, p_values = self.rule.conclude(outputs["log_odds"])
        return {"verdict": verdict} | {f"p_{name}": p for name, p in p_values.items()}


def _check_intakes(triage: Triage) -> None:
    panel = triage.pipeline._panel
    for name in panel.looks:
        raise TypeError(f"Detector {name!r} asks the model again, which no graph does here.")
    for name in panel.separate:
        raise TypeError(f"Detector {name!r} runs by itself and does not go into one graph.")
    for name, entry in panel.fed.items():
        if entry.representation == "feature_maps":
            raise TypeError(f"Detector {name!r} takes feature maps, which no graph gives it yet.")
