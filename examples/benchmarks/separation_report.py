"""The Markdown report of the separation benchmark: targets met or not, detectors side by side."""

from collections.abc import Callable
from math import inf

from pandas import DataFrame
from separation_scores import DETECTORS, NOISE
from tables import markdown
from targets import Target, Value

_STRONG = ("pgd8", "bim8", "fgsm8")
_RECOMMENDED = DETECTORS[0]


def natural(rows: DataFrame) -> DataFrame:
    """:return: the rows against natural OOD sets"""
    return rows[~rows["negatives"].isin(["id", *NOISE])]


def _mean(attack: str, metric: str = "AUROC") -> Callable[[DataFrame], Value | None]:
    def read(rows: DataFrame) -> Value | None:
        found = natural(rows[rows["attack"] == attack])[metric]
        return Value(float(found.mean())) if len(found) else None

    return read


def _against_id(attack: str) -> Callable[[DataFrame], Value | None]:
    def read(rows: DataFrame) -> Value | None:
        found = rows[(rows["attack"] == attack) & (rows["negatives"] == "id")]["AUROC"]
        return Value(float(found.iloc[0])) if len(found) else None

    return read


def _worst(rows: DataFrame) -> Value | None:
    if rows.empty:
        return None
    lowest = rows.loc[rows["AUROC"].idxmin()]
    return Value(float(lowest["AUROC"]), f"{lowest['negatives']}, {lowest['attack']}")


def _worst_natural(rows: DataFrame) -> Value | None:
    return _worst(natural(rows[rows["attack"].isin(_STRONG)]))


def _worst_noise(rows: DataFrame) -> Value | None:
    return _worst(rows[rows["negatives"].isin(NOISE)])


TARGETS = (
    Target("OOD-vs-ADV, PGD 8/255", _mean("pgd8"), low=0.995),
    Target("OOD-vs-ADV, BIM 8/255", _mean("bim8"), low=0.995),
    Target("OOD-vs-ADV, FGSM 8/255", _mean("fgsm8"), low=0.995),
    Target("OOD-vs-ADV, PGD 4/255", _mean("pgd4"), low=0.99),
    Target("OOD-vs-ADV, PGD 2/255", _mean("pgd2"), low=0.97),
    Target("worst OOD set, attacks of 8/255", _worst_natural, low=0.98),
    Target("OOD-vs-ADV, DeepFool", _mean("deepfool"), low=0.85),
    Target("OOD-vs-ADV, CW", _mean("cw"), low=0.85),
    Target("ID-vs-ADV, PGD 8/255", _against_id("pgd8"), low=0.99),
    Target("ID-vs-ADV, PGD 4/255", _against_id("pgd4"), low=0.97),
    Target("noise images as OOD, worst attack", _worst_noise, low=0.95),
    Target("FPR95 OOD-vs-ADV, PGD 8/255", _mean("pgd8", "FPR95"), high=0.02),
)


def main_report(results: DataFrame, attacks: DataFrame) -> str:
    """
    :param results: rows of ``separation.csv``
    :param attacks: rows of ``separation_attacks.csv``
    :return: the report
    """
    return "\n\n".join(
        [
            "# Separation of ADV from OOD and ID",
            "Made by `python examples/benchmarks/separation.py --data DATA_FOLDER`. Attacks are "
            "rounded to 8 bit and count where they still succeed; AUROC keeps its direction "
            "(below 0.5: the wrong way round); detectors are fitted on ID images that are not "
            "measured on. OOD-vs-ADV is the mean over eight natural OOD sets.",
            f"## {_RECOMMENDED} against the targets",
            _targets_table(results),
            "What fails:\n\n" + _misses(results),
            "## All detectors against the targets",
            "Mean over the configurations, the worst of them, and in how many the target is met.",
            _detectors_table(results),
            "## Attacks",
            "Success rate after rounding and mean size of the successful perturbations (largest "
            "change and root mean square, in units of 1/255). AUROC OOD-vs-ADV: mean over the "
            "natural OOD sets (the worst set); then ID-vs-ADV.",
            _attacks_table(results, attacks),
            "![AUROC by attack, configuration and detector](separation.png)\n",
        ]
    )


def _heading(target: Target) -> str:
    at_most = target.high < inf
    bound = target.high if at_most else target.low
    return f"{target.name} {'≤' if at_most else '≥'} {bound:g}"


def _targets_table(results: DataFrame) -> str:
    configs = list(results["config"].unique())
    lines = [["target", *configs, "met"]]
    total = met = 0
    for target in TARGETS:
        values = [_value(target, results, _RECOMMENDED, config) for config in configs]
        known = [value for value in values if value]
        reached = sum(target.met(value) for value in known)
        total, met = total + len(known), met + reached
        cells = [target.cell(value) for value in values]
        lines.append([_heading(target), *cells, f"{reached} of {len(known)}"])
    summary = f"{met} of {total} met; what is not stands in bold."
    return f"{summary}\n\n{markdown(lines)}"


def _misses(results: DataFrame) -> str:
    """A line for each configuration: the targets it misses, and by how much."""
    lines = []
    for config in results["config"].unique():
        values = [(target, _value(target, results, _RECOMMENDED, config)) for target in TARGETS]
        missed = [
            f"{target.name} {value.number:.3f}{f' ({value.where})' if value.where else ''}"
            for target, value in values
            if value and not target.met(value)
        ]
        lines.append(f"- {config}: {'; '.join(missed) or 'nothing'}.")
    return "\n".join(lines)


def _detectors_table(results: DataFrame) -> str:
    configs = results["config"].unique()
    lines = [["target", *DETECTORS]]
    for target in TARGETS:
        cells = [_heading(target)]
        for detector in DETECTORS:
            values = [_value(target, results, detector, config) for config in configs]
            known = [value for value in values if value]
            numbers = [value.number for value in known]
            worst = min if target.high == inf else max
            cells.append(
                f"{sum(numbers) / len(numbers):.3f}, {worst(numbers):.3f} "
                f"({sum(map(target.met, known))}/{len(known)})"
                if known
                else ""
            )
        lines.append(cells)
    return markdown(lines)


def _attacks_table(results: DataFrame, attacks: DataFrame) -> str:
    shown = DETECTORS[:3]  # the fourth equals ViyogTV
    lines = [["configuration", "attack", "success", "L∞", "RMS", *shown, *shown]]
    lines[0] = [*lines[0][:5], *(f"{d}, OOD" for d in shown), *(f"{d}, ID" for d in shown)]
    for row in attacks.itertuples():
        of_attack = results[(results["config"] == row.config) & (results["attack"] == row.attack)]
        cells = [row.config, row.attack, f"{row.succeeded / row.attacked:.2f}"]
        cells += [f"{row.linf:.1f}", f"{row.rms:.2f}"]
        for detector in shown:
            rows = natural(of_attack[of_attack["detector"] == detector])
            worst = rows.loc[rows["AUROC"].idxmin()]
            mean = rows["AUROC"].mean()
            cells.append(f"{mean:.3f} ({worst['AUROC']:.3f} {worst['negatives']})")
        for detector in shown:
            value = _against_id(row.attack)(of_attack[of_attack["detector"] == detector])
            cells.append(f"{value.number:.3f}" if value else "")
        lines.append(cells)
    return markdown(lines)


def _value(target: Target, results: DataFrame, detector: str, config: str) -> Value | None:
    rows = results[(results["detector"] == detector) & (results["config"] == config)]
    return target.read(rows)
