"""Verdicts from stored scores, many halvings of the ID images, tables of rates."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from pytorch_ood_viyog.triage.calibration import Calibration, budget_shares
from pytorch_ood_viyog.triage.verdict import Verdict
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from pytorch_ood_viyog.triage.conformal import alarm_thresholds

Scores = dict[str, Tensor]
# scores of many samples -> verdicts
Decide = Callable[[Scores], Tensor]
_NOISY_FPR = 0.05
AT_8_AND_4 = ("fgsm8", "pgd8", "pgd4")


@dataclass(frozen=True)
class ScoresOfConfig:
    """
    :param id: detector -> scores of the ID test images
    :param ood: OOD set -> detector -> scores
    :param adv: attack -> detector -> scores of its successes
    :param attacked: attack -> positions of the attacked images among the ID test images
    :param least_adv: score that the residue router asks for
    :param benign: benign change -> detector -> scores of the changed ID test images
    :param changed: scores of intent for the ID test images, a random simulated change each
    """

    id: Scores
    ood: dict[str, Scores]
    adv: dict[str, Scores]
    attacked: dict[str, Tensor]
    least_adv: float
    benign: dict[str, Scores] = field(default_factory=dict)
    changed: Tensor | None = None


@dataclass(frozen=True)
class Rule:
    """
    :param gates: names of the gates
    :param router: name of the router
    :param alarm: name of the detector that raises the router's alarms, which may be the router
    :param share: share of the false alarms that the router's alarm may raise
    :param by_least: whether an alarm means ADV where the router scores above ``least_adv``,
        whoever raised it; else where it is the router's
    :param combine: ``"fused"``, ``"any"`` or ``"max"``, as for ``Triage``
    :param id_fpr: rate of false alarms
    :param intent: name of the detector that tells ADV from NOISY, if any
    """

    gates: tuple[str, ...]
    router: str
    alarm: str
    by_least: bool = True
    share: float = 0.5
    combine: str = "fused"
    id_fpr: float = 0.05
    intent: str | None = None

    @property
    def fused(self) -> tuple[str, ...]:
        """The gates that give one signal together."""
        return self.gates if self.combine == "fused" and len(self.gates) > 1 else ()


def evaluate(scores: ScoresOfConfig, rule: Rule, halvings: int) -> dict[str, float]:
    """
    :param scores: scores of one model
    :param rule: what decides
    :param halvings: number of random halvings of the ID images
    :return: rates, means over the halvings; over the natural sets where OOD stands alone, and
        over FGSM and PGD at 8/255 and PGD at 4/255 where ADV does
    """
    generator = torch.Generator().manual_seed(0)
    count = len(scores.id[rule.router])
    names = {*rule.gates, rule.alarm, rule.router}
    decided = names | ({rule.intent} if rule.intent else set())
    least_adv = scores.least_adv if rule.by_least else None
    decides = (rule.router if rule.by_least else rule.alarm, least_adv, rule.intent)
    results = []
    for _ in range(halvings):
        order = torch.randperm(count, generator=generator)
        known, new = order[: count // 2], order[count // 2 :]
        shares = budget_shares(rule.gates, rule.alarm, rule.share, bool(rule.fused))
        id_scores = {name: scores.id[name][known] for name in names}
        calibration = Calibration.of(
            id_scores, rule.fused, shares, rule.id_fpr, standardised=rule.combine == "max"
        )
        if rule.intent is not None and scores.changed is not None:
            changed = scores.changed[known].sort().values
            calibration = calibration.with_intent(rule.intent, changed, _NOISY_FPR)

        def decide(table: Scores, calibration: Calibration = calibration) -> Tensor:
            chosen = calibration.with_fused({name: table[name] for name in decided})
            return calibration.verdicts(chosen, *decides)

        results.append(_rates(scores, decide, new))
    return mean(results)


def evaluate_lda(
    scores: ScoresOfConfig, names: tuple[str, ...], halvings: int, id_fpr: float | None = None
) -> dict[str, float]:
    """
    The rule of ``TriageLDA``: it is shown one half of the ID images, of each natural OOD set and
    of each attack at 8/255 and 4/255, and judged on the others.

    :param scores: scores of one model
    :param names: detectors that it sees
    :param halvings: number of random halvings
    :param id_fpr: rate of false alarms that the bias of ID is set for; without it, the three
        classes count alike
    :return: rates, as :func:`evaluate`
    """
    generator = torch.Generator().manual_seed(0)
    results = []
    for _ in range(halvings):
        order = torch.randperm(len(scores.id[names[0]]), generator=generator)
        known, new = order[: len(order) // 2], order[len(order) // 2 :]
        shown, judged = _halve_ood(scores, generator)
        attacked = [
            _rows(scores.adv[a], names, torch.isin(scores.attacked[a], known)) for a in AT_8_AND_4
        ]
        parts = {
            Verdict.ID: _rows(scores.id, names, known),
            Verdict.OOD: torch.cat([_rows(table, names) for table in shown.values()]),
            Verdict.ADV: torch.cat(attacked),
        }
        labels = torch.cat([torch.full((len(x),), int(v)) for v, x in parts.items()])
        lda = LinearDiscriminantAnalysis(priors=[1 / 3] * 3)
        lda.fit(torch.cat(list(parts.values())).numpy(), labels.numpy())

        limit = 0.0
        if id_fpr is not None:
            margins = _lda_margin(lda, parts[Verdict.ID])[0]
            limit = alarm_thresholds({"margin": margins}, id_fpr, {"margin": 1.0})["margin"]

        def decide(
            table: Scores, lda: LinearDiscriminantAnalysis = lda, limit: float = limit
        ) -> Tensor:
            margins, verdicts = _lda_margin(lda, _rows(table, names))
            return torch.where(margins > limit, verdicts, int(Verdict.ID))

        results.append(_rates(replace(scores, ood=judged), decide, new))
    return mean(results)


def _lda_margin(lda: LinearDiscriminantAnalysis, rows: Tensor) -> tuple[Tensor, Tensor]:
    """How much more than ID the better one of OOD and ADV is likely, and which one that is."""
    adv, known, ood = torch.from_numpy(lda.decision_function(rows.numpy())).unbind(dim=1)
    verdicts = torch.where(adv > ood, int(Verdict.ADV), int(Verdict.OOD))
    return torch.maximum(adv, ood) - known, verdicts


def _halve_ood(
    scores: ScoresOfConfig, generator: torch.Generator
) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """One half of each natural OOD set to learn from; the other halves, and all noise images."""
    shown, judged = {}, {}
    for name, table in scores.ood.items():
        if "noise" in name:
            judged[name] = table
            continue
        order = torch.randperm(len(next(iter(table.values()))), generator=generator)
        half = len(order) // 2
        shown[name] = {detector: values[order[:half]] for detector, values in table.items()}
        judged[name] = {detector: values[order[half:]] for detector, values in table.items()}
    return shown, judged


def _rows(table: Scores, names: tuple[str, ...], part: Tensor | None = None) -> Tensor:
    stacked = torch.stack([table[name] for name in names], dim=1)
    return stacked if part is None else stacked[part]


def _rates(scores: ScoresOfConfig, decide: Decide, new: Tensor) -> dict[str, float]:
    def rate(table: Scores, verdict: Verdict, part: Tensor | None = None) -> float:
        verdicts = decide(table)
        return float(((verdicts if part is None else verdicts[part]) == verdict).double().mean())

    natural = [table for name, table in scores.ood.items() if "noise" not in name]
    noise = [table for name, table in scores.ood.items() if "noise" in name]
    parts = {a: torch.isin(index, new) for a, index in scores.attacked.items()}
    recall = {a: rate(table, Verdict.ADV, parts[a]) for a, table in scores.adv.items()}
    rates = {
        "ID alarm": 1 - rate(scores.id, Verdict.ID, new),
        "OOD": _mean([rate(table, Verdict.OOD) for table in natural]),
        "OOD>ADV": _mean([rate(table, Verdict.ADV) for table in natural]),
        "noise": _mean([rate(table, Verdict.OOD) for table in noise]),
        "ADV": _mean([recall[a] for a in AT_8_AND_4]),
        "ADV>OOD": _mean([rate(scores.adv[a], Verdict.OOD, parts[a]) for a in AT_8_AND_4]),
    }
    if scores.benign:
        changed = list(scores.benign.values())
        rates["noisy>ADV"] = _mean([rate(table, Verdict.ADV, new) for table in changed])
        rates["NOISY"] = _mean([rate(table, Verdict.NOISY, new) for table in changed])
        rates["ADV>NOISY"] = _mean(
            [rate(scores.adv[a], Verdict.NOISY, parts[a]) for a in AT_8_AND_4]
        )
    balanced = _mean([1 - rates["ID alarm"], rates["OOD"], rates["ADV"]])
    return {"balanced": balanced} | rates | recall


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """:return: mean of each column"""
    return {key: _mean([row[key] for row in rows]) for key in rows[0]}


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """
    :param title: printed above
    :param rows: label -> column -> value
    """
    width = max(len(label) for label in rows)
    columns = next(iter(rows.values()))
    print(f"\n{title}\n{'':<{width}}  " + " ".join(f"{name:>8}" for name in columns))
    for label, row in rows.items():
        print(f"{label:<{width}}  " + " ".join(f"{value:8.3f}" for value in row.values()))
