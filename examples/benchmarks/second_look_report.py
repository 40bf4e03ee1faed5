"""The benchmark of the second look as tables against the targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas
from second_look_images import SMOOTH

MINIMAL = ("deepfool", "cw")
BOUNDED = ("fgsm8", "pgd8", "bim8", "pgd4", "pgd2")
ATTACKS = (*BOUNDED, *MINIMAL, *SMOOTH)
NOISES = ("noise/2", "noise/4", "noise/8")
_NAN = float("nan")


@dataclass(frozen=True)
class Target:
    """
    :param name: what must be reached
    :param detector: of which detector
    :param measure: of which measure
    :param of: attacks or sets, each of which counts
    :param low: smallest value that reaches it
    :param high: largest value that reaches it
    """

    name: str
    detector: str
    measure: str
    of: Sequence[str]
    low: float = 0.0
    high: float = 1.0

    @property
    def wanted(self) -> str:
        """As text."""
        if self.low > 0 and self.high < 1:
            return f"{self.low:g}-{self.high:g}"
        return f"≥ {self.low:g}" if self.low > 0 else f"≤ {self.high:g}"

    def values(self, table: pandas.DataFrame, config: str) -> list[float]:
        """:return: the values of a configuration, as far as it has them"""
        found = [value(table, config, self.detector, self.measure, of) for of in self.of]
        return [each for each in found if each == each]

    def cell(self, values: Sequence[float]) -> str:
        """:return: the worst of the values, **bold** where it misses the target"""
        if not values:
            return "-"
        shown = f"{min(values):.3f}" if self.low > 0 else f"{max(values):.3f}"
        if self.low > 0 and self.high < 1:
            shown = f"{min(values):.2f}-{max(values):.2f}"
        reached = all(self.low <= each <= self.high for each in values)
        return shown if reached else f"**{shown}**"


_RIGHT, _DIFFERS = "second answer is right", "second answers that differ"
_STANDS, _CHANGES = "answer that overrules is right", "answers that change"
TARGETS = [
    Target("DeepFool, CW against ID", "SecondLook", "AUROC against ID", MINIMAL, 0.95),
    Target("smooth PGD against ID", "SecondLook", "AUROC against ID", tuple(SMOOTH), 0.95),
    Target("noisy ID against clean ID", "SecondLook", "AUROC against ID", NOISES, 0.45, 0.6),
    Target("second answer is right, DeepFool, CW", "SecondLook", _RIGHT, MINIMAL, 0.8),
    Target("second answer is right, PGD 2", "SecondLook", _RIGHT, ("pgd2",), 0.6),
    Target("ID: second answer differs", "SecondLook", _DIFFERS, ("id",), high=0.02),
    Target("overrules and is right, DeepFool, CW", "SecondLook", _STANDS, MINIMAL, 0.8),
    Target("overrules and is right, PGD 2", "SecondLook", _STANDS, ("pgd2",), 0.6),
    Target("ID: second answer overrules", "SecondLook", _CHANGES, ("id",), high=0.02),
]


def report(table: pandas.DataFrame) -> str:
    """
    :param table: the rows of all configurations
    :return: Markdown: targets, all AUROC, answers
    """
    configs = list(table["config"].unique())
    return "\n".join(
        [
            "# Second look",
            "",
            "Made by `python examples/benchmarks/second_look.py`. Attacks are rounded to 8 bit",
            "and counted where they succeed; AUROC keeps its direction. Evidence, the",
            "dependence of the strength on the noise floor (`follow`), the strengths that are",
            "tried, the order of the purifiers and when an answer overrules were settled by a",
            "look at gtsrb-3x3, cifar10-3x3, photo15-8x8, photo15-7x7 and efficientnet-lite0;",
            "photo15-3x3 was not looked at. ViyogResidue is fitted to the images that",
            "`separation.py` fits it to, SecondLook to others, which the models were not",
            "trained on (but for efficientnet-lite0: to the same); p-values and thresholds come",
            "from further ID images. Of efficientnet-lite0 the answers to clean",
            "images count as true; its CW has a confidence, and DeepFool does not survive",
            "rounding there.",
            "Configurations that are missing were not run; those without baselines were run with",
            "`--no-baselines`.",
            "",
            "## Targets",
            "",
            "The worst value of each cell, **bold** where it misses the target. Mean: over",
            "configurations and attacks.",
            "",
            *_targets(table, configs),
            "",
            *_choices(table, configs),
            "",
            *_areas(table, configs, "AUROC against ID"),
            *_areas(table, configs, "AUROC against OOD"),
            *_answers(table, configs),
        ]
    )


def value(table: pandas.DataFrame, config: str, detector: str, measure: str, of: str) -> float:
    """:return: one number of the table, NaN where it is not there"""
    rows = table[
        (table["config"] == config)
        & (table["detector"] == detector)
        & (table["measure"] == measure)
        & (table["of"] == of)
    ]
    return float(rows["value"].iloc[0]) if len(rows) else _NAN


def _targets(table: pandas.DataFrame, configs: list[str]) -> list[str]:
    lines = [f"| | target | {' | '.join(configs)} | mean | worst |"]
    lines.append("|---" * (len(configs) + 4) + "|")
    for target in TARGETS:
        found = [target.values(table, config) for config in configs]
        every = [each for values in found for each in values]
        mean = f"{sum(every) / len(every):.3f}" if every else "-"
        cells = [*map(target.cell, found), mean, target.cell(every)]
        lines.append(f"| {target.name} | {target.wanted} | {' | '.join(cells)} |")
    return lines


def _choices(table: pandas.DataFrame, configs: list[str]) -> list[str]:
    chosen = table[table["measure"] == "chosen"].pivot(
        index="config", columns="of", values="value"
    )
    lines = ["| chosen by ID data | purifier | strength / 255 | clear flips | least distance |"]
    lines.append("|---" * 5 + "|")
    for config in configs:
        row = chosen.loc[config]
        cells = (f"{float(row[name]):.2f}" for name in ("strength", "flips", "least"))
        lines.append(f"| {config} | {row['purifier']} | {' | '.join(cells)} |")
    return lines


def _areas(table: pandas.DataFrame, configs: list[str], measure: str) -> list[str]:
    part = table[table["measure"] == measure]
    sets = [*ATTACKS, *(each for each in NOISES if each in set(part["of"]))]
    keys = [(config, detector) for config in configs for detector in part["detector"].unique()]
    rows = {
        f"{config} | {detector}": [value(part, config, detector, measure, of) for of in sets]
        for config, detector in keys
    }
    return _table(measure, "config | detector", sets, rows)


def _answers(table: pandas.DataFrame, configs: list[str]) -> list[str]:
    sets = ["id", *ATTACKS]
    names = {
        "answers that change": "changed",
        "second answers that differ": "differs",
        "second answer is right": "is right",
        "answer that overrules is right": "overrules, is right",
    }
    rows = {
        f"{config} | {short}": [value(table, config, "SecondLook", name, of) for of in sets]
        for config in configs
        for name, short in names.items()
    }
    return _table("Answers", "config | second answer", sets, rows)


def _table(
    title: str, key: str, columns: Sequence[str], rows: dict[str, list[float]]
) -> list[str]:
    lines = [f"## {title}", "", f"| {key} | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for name, values in rows.items():
        if any(each == each for each in values):
            cells = " | ".join("-" if each != each else f"{each:.3f}" for each in values)
            lines.append(f"| {name} | {cells} |")
    return [*lines, ""]
