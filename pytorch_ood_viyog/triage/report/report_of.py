"""
Compares the verdicts of a triage with the truth.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor

from ...detectors.same_way import SameWay
from ...detectors.way_check import FEWEST
from ...layer.batches import batches, in_batches
from ...layer.manners import same_random_state
from ...pipeline.shared_forward import SharedForward
from ..explanation import Explanation
from ..populations.verdict import Verdict
from .judged import JudgedClass, JudgedSample
from .report import TriageReport
from .residue_at import residue_at

__all__ = ["Explains", "judged", "judged_class", "with_residue"]

Inputs = Tensor | Iterable[Any]


class Explains(Protocol):
    """What gives verdicts and says why: a Triage."""

    pipeline: SharedForward
    id_fpr: float
    seed: int

    def explain(self, x: Tensor) -> Explanation:
        """:return: verdicts and what is behind them"""

    @property
    def drift(self) -> SameWay:
        """Tells whether images come the way of the calibration images."""
        ...


def judged(
    triage: Explains, id: Inputs, ood: Inputs, adv: Inputs, noisy: Inputs | None, progress: bool
) -> TriageReport:
    """
    :param triage: fitted triage
    :param id: as for :meth:`~pytorch_ood_viyog.triage.triage.Triage.report`
    :param ood: as for that
    :param adv: as for that
    :param noisy: as for that
    :param progress: as for that
    :return: the report
    """
    given = {Verdict.ID: id, Verdict.OOD: ood, Verdict.ADV: adv}
    given |= {} if noisy is None else {Verdict.NOISY: noisy}
    classes = [judged_class(triage, truth, x, progress) for truth, x in given.items()]
    samples = [with_residue(triage, sample) for each in classes for sample in each.samples]
    seeds = {"Triage": triage.seed}
    report = TriageReport.of_classes(classes, samples, triage.id_fpr, repr(triage), seeds)
    enough = [each for each in classes if len(each.readings) >= FEWEST]
    ways = {each.truth: triage.drift.check_readings(each.readings) for each in enough}
    return replace(report, ways=ways)


def judged_class(triage: Explains, truth: Verdict, inputs: Inputs, progress: bool) -> JudgedClass:
    """
    :param triage: fitted triage
    :param truth: what the inputs are
    :param inputs: tensor or loader
    :param progress: show a progress bar
    :return: what became of them
    """
    found = JudgedClass(truth)
    with same_random_state(triage.pipeline.model):
        for x, _ in batches(in_batches(inputs), "triage", progress):
            found.take(x, triage.explain(x), triage.drift.read(x))
    return found


def with_residue(triage: Explains, sample: JudgedSample) -> JudgedSample:
    """
    :param triage: fitted triage
    :param sample: a sample to look at
    :return: the same with its residue at each place
    """
    device = next((p.device for p in triage.pipeline.model.parameters()), sample.x.device)
    found = residue_at(triage.pipeline.detectors.values(), sample.x.to(device))
    return replace(sample, residue=found)
