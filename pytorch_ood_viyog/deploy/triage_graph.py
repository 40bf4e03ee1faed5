"""
A whole Triage with its model as one module, and stand-ins for what does not go into a graph as it
is.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_ood.detector import KNN
from torch import Tensor
from torch.nn import Module

from ..detectors.residue_view import ResidueView
from ..layer.layer_call import LayerCall
from ..layer.manners import unwrap
from ..looks.logits import usual_logits
from ..pipeline.feeding import trial_copy
from ..pipeline.shared_pass import Representations
from ..triage.fitted_triage import FittedTriage
from ..triage.populations.verdict import ORDER, Verdict
from ..triage.rule.evidence import FLAT, answer_numbers, residue_shape, second_look
from ..triage.rule.rule import SHAPES, Learnt, Rule, Shape
from ..triage.rule.thresholds import ALARMS, Thresholds
from ..triage.triage import Triage
from .graphs import Graph
from .scored_model import ScoredModel
from .scorers import FittedState
from .stand_ins import Slot, WatchedLayer, put_in_place

__all__ = ["TriageGraph"]

# name of the residue's features among what the first layer gives
_SHAPE = "shape of the residue"


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


class VerdictRule(Module):
    """
    Gives what a fitted triage gives, with one difference: where the evidence is not finite, the
    verdict is OOD, since nobody refuses the input beforehand.
    """

    def __init__(self, fitted: FittedTriage):
        super().__init__()
        rule = fitted.rule
        self.look = fitted.look if rule.full is not None else "never"
        self.names = (rule.full or rule.first).names
        self.first_names = rule.first.names
        self.shape = FittedState(vars(rule.shape))
        self.first = FittedState(_tensors(rule.first))
        self.full = FittedState(_tensors(rule.full or rule.first))
        self.thresholds = FittedState(vars(fitted.thresholds))
        self.register_buffer("open_above", rule.open_above.cpu().clone())

    def read(self, features: Tensor) -> dict[str, Tensor]:
        """What the residue's features, :math:`B \\times F`, say, by name."""
        readings = self._shape()(features)
        return dict(zip(SHAPES, readings.unbind(dim=1), strict=True))

    def forward(self, numbers: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """
        :param numbers: name -> evidence of shape :math:`B`
        :return: verdicts of shape :math:`B`, int64; log-odds of ID, OOD, ADV and NOISY; and
            p-values of the last three
        """
        first, full = (
            Rule(self.first_names, **self.first.tensors()),
            Rule(self.names, **self.full.tensors()),
        )
        z = first(numbers)
        if self.look != "never":
            learnt = Learnt(self._shape(), first, full, self.get_buffer("open_above"))
            z = torch.where(learnt.asked(z, self.look)[:, None], full(numbers), z)
        verdicts, p_values = self.conclude(z)
        return verdicts, z, p_values

    def conclude(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Verdicts of shape :math:`B`, and p-values, of log-odds :math:`B \\times 4`."""
        thresholds = Thresholds(**self.thresholds.tensors())
        finite = z.isfinite().all(dim=1)
        verdicts = torch.where(finite, thresholds.verdicts(z), int(Verdict.OOD))
        return verdicts, thresholds.p_values(z)

    def _shape(self) -> Shape:
        return Shape(**self.shape.tensors())


def _tensors(rule: Rule) -> dict[str, Tensor]:
    return {name: value for name, value in vars(rule).items() if isinstance(value, Tensor)}


class ShapeReading(ResidueView):
    """
    All features of the residue and the share of constant windows, :math:`B \\times (F + 1)`, in
    place of a score.
    """

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        shape, flat = residue_shape(self.residue, call, state)
        return torch.cat([shape, flat[:, None]], dim=1)


class NearestFeatures:
    """
    The distance to the :math:`k`-th nearest feature vector of the fit, as :class:`KNN` gives it by
    scikit-learn.
    """

    def __init__(self, detector: KNN):
        self.k, self.normalize = detector.k, detector.normalize
        self.known = torch.from_numpy(detector.knn._fit_X).double()

    def predict_features(self, z: Tensor) -> Tensor:
        """Scores of shape :math:`B` of features, :math:`B \\times D`."""
        z = z.double()
        if self.normalize:
            z = z / z.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
        known = self.known.to(z.device)
        squares = z.square().sum(dim=1)[:, None] + known.square().sum(dim=1)
        nearest = (squares - 2 * z @ known.T).topk(self.k, dim=1, largest=False).values
        return nearest[:, -1].clamp_min(0).sqrt()
