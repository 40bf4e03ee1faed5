"""Verdicts from stored scores, many halvings of the ID images, tables of rates."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pytorch_ood_viyog.calibration import Calibration, budget_shares
from pytorch_ood_viyog.triage_report import Verdict

Scores = dict[str, Tensor]
AT_8_AND_4 = ("fgsm8", "pgd8", "pgd4")


@dataclass(frozen=True)
class ScoresOfConfig:
    """
    :param id: detector -> scores of the ID test images
    :param ood: OOD set -> detector -> scores
    :param adv: attack -> detector -> scores of its successes
    :param attacked: attack -> positions of the attacked images among the ID test images
    """

    id: Scores
    ood: dict[str, Scores]
    adv: dict[str, Scores]
    attacked: dict[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """
    :param gates: names of the gates
    :param router: name of the router
    :param share: share of the false alarms that the router may raise
    :param combine: ``"fused"`` or ``"any"``, as for ``Triage``
    :param id_fpr: rate of false alarms
    """

    gates: tuple[str, ...]
    router: str
    share: float = 0.5
    combine: str = "fused"
    id_fpr: float = 0.05

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
    results = []
    for _ in range(halvings):
        order = torch.randperm(count, generator=generator)
        results.append(_evaluate(scores, rule, order[: count // 2], order[count // 2 :]))
    return {key: sum(result[key] for result in results) / halvings for key in results[0]}


def _evaluate(scores: ScoresOfConfig, rule: Rule, known: Tensor, new: Tensor) -> dict[str, float]:
    names = (*rule.gates, rule.router)
    shares = budget_shares(rule.gates, rule.router, rule.share, bool(rule.fused))
    calibration = Calibration.of(
        {name: scores.id[name][known] for name in names}, rule.fused, shares, rule.id_fpr
    )

    def rate(table: Scores, verdict: Verdict, part: Tensor | None = None) -> float:
        chosen = {n: table[n] if part is None else table[n][part] for n in names}
        verdicts = calibration.verdicts(calibration.with_fused(chosen), rule.router)
        return float((verdicts == verdict).double().mean())

    natural = [table for name, table in scores.ood.items() if "noise" not in name]
    noise = [table for name, table in scores.ood.items() if "noise" in name]
    parts = {a: torch.isin(index, new) for a, index in scores.attacked.items()}
    recall = {a: rate(t, Verdict.ADV, parts[a]) for a, t in scores.adv.items()}
    rates = {
        "ID alarm": 1 - rate(scores.id, Verdict.ID, new),
        "OOD": _mean([rate(table, Verdict.OOD) for table in natural]),
        "OOD>ADV": _mean([rate(table, Verdict.ADV) for table in natural]),
        "noise": _mean([rate(table, Verdict.OOD) for table in noise]),
        "ADV": _mean([recall[a] for a in AT_8_AND_4]),
        "ADV>OOD": _mean([rate(scores.adv[a], Verdict.OOD, parts[a]) for a in AT_8_AND_4]),
    }
    balanced = _mean([1 - rates["ID alarm"], rates["OOD"], rates["ADV"]])
    return {"balanced": balanced} | rates | recall


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


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
