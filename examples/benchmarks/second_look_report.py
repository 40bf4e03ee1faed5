"""The numbers of the second look's benchmark as rows, and as tables against the targets."""

from collections.abc import Callable, Sequence

import pandas
import torch
from second_look_scores import FUSED, SMOOTH, WITH_ALARM, Answers
from torch import Tensor

MINIMAL = ("deepfool", "cw")
BOUNDED = ("fgsm8", "pgd8", "bim8", "pgd4", "pgd2")
_VERDICTS = {"id": 0, "ood": 1, "adv": -1}

Row = dict[str, object]


def area(negatives: Tensor, positives: Tensor) -> float:
    """:return: AUROC with the positives scoring higher, never folded"""
    scores = torch.cat([negatives, positives]).double()
    ranks = torch.empty_like(scores)
    ranks[scores.argsort()] = torch.arange(1, len(scores) + 1, dtype=scores.dtype)
    values, places, counts = scores.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros_like(values).index_add_(0, places, ranks)
    mean_ranks = (sums / counts)[places[len(negatives) :]]
    n, m = len(negatives), len(positives)
    return float((mean_ranks.sum() - m * (m + 1) / 2) / (n * m))


def rows(config: str, answers: Answers) -> list[Row]:
    """:return: a row for each number: config, detector, measure, of what, value, samples"""
    found = [
        row
        for detector, scores in answers.scores.items()
        for row in _score_rows(config, detector, scores)
    ]
    for group, changed in answers.changed.items():
        found.append(_row(config, "SecondLook", "answers that change", group, changed))
    for attack, right in answers.right.items():
        found.append(_row(config, "SecondLook", "second answer is right", attack, right))
    for name, value in answers.choice.items():
        found.append(_row(config, "SecondLook", "chosen", name, value))
    for how, verdicts in answers.verdicts.items():
        for group, given in verdicts.items():
            if (truth := group.split("/")[0]) in _VERDICTS:
                good = given == _VERDICTS[truth]
                found.append(_row(config, f"Triage {how}", "recall", group, good))
        found.append(_row(config, f"Triage {how}", "forward passes", "id", answers.passes[how]))
    return found


def _score_rows(config: str, detector: str, scores: dict[str, Tensor]) -> list[Row]:
    known = scores["id"]
    unknown = torch.cat([v for group, v in scores.items() if group.startswith("ood/")])
    found = []
    for group, values in scores.items():
        if group.startswith(("adv/", "noise/")) and len(values):
            of, samples = group.removeprefix("adv/"), len(values)
            against = {"ID": known} | ({"OOD": unknown} if group.startswith("adv/") else {})
            for name, negatives in against.items():
                measure = f"AUROC against {name}"
                value = area(negatives, values)
                found.append(_row(config, detector, measure, of, value, samples))
    return found


def _row(
    config: str, detector: str, measure: str, of: str, value: object, samples: int | None = None
) -> Row:
    if isinstance(value, Tensor):
        value, samples = float(value.double().mean()), len(value)
    return {
        "config": config,
        "detector": detector,
        "measure": measure,
        "of": of,
        "value": value,
        "samples": samples,
    }


# what must be reached: name, detector, measure, of what, and whether a value reaches it
Target = tuple[str, str, str, Sequence[str], float, float]
_NOISE = ("noise/2", "noise/4", "noise/8")
_FUSED_SETS = ((FUSED, FUSED), (WITH_ALARM, WITH_ALARM))
TARGETS: list[Target] = [
    ("DeepFool, CW against ID", "SecondLook", "AUROC against ID", MINIMAL, 0.95, 1),
    *[
        target
        for label, detector in _FUSED_SETS
        for target in (
            (f"DeepFool, CW against ID, {label}", detector, "AUROC against ID", MINIMAL, 0.97, 1),
            (
                f"PGD, BIM, FGSM against ID, {label}",
                detector,
                "AUROC against ID",
                BOUNDED,
                0.995,
                1,
            ),
            (f"DeepFool, CW against OOD, {label}", detector, "AUROC against OOD", MINIMAL, 0.9, 1),
            (
                f"smooth PGD against ID, {label}",
                detector,
                "AUROC against ID",
                tuple(SMOOTH),
                0.95,
                1,
            ),
            (
                f"smooth PGD against OOD, {label}",
                detector,
                "AUROC against OOD",
                tuple(SMOOTH),
                0.88,
                1,
            ),
        )
    ],
    ("noisy ID against clean ID", "SecondLook", "AUROC against ID", _NOISE, 0.45, 0.6),
    (
        "second answer is right, DeepFool, CW",
        "SecondLook",
        "second answer is right",
        MINIMAL,
        0.8,
        1,
    ),
    ("second answer is right, PGD 2", "SecondLook", "second answer is right", ("pgd2",), 0.6, 1),
    ("ID answers that change", "SecondLook", "answers that change", ("id",), 0, 0.02),
    ("forward passes, on alarm", "Triage alarm", "forward passes", ("id",), 0, 1.1),
    ("forward passes, always", "Triage always", "forward passes", ("id",), 0, 2.1),
]


def report(table: pandas.DataFrame) -> str:
    """
    :param table: the rows of all configurations
    :return: Markdown: targets, all AUROC, triage
    """
    configs = list(table["config"].unique())
    return "\n".join(
        [
            "# Second look",
            "",
            "Made by `python examples/benchmarks/second_look.py --data DATA_FOLDER`. Attacks",
            "are rounded to 8 bit and counted where they succeed; AUROC keeps its direction.",
            "Score, dependence of the strength on the noise floor (`follow`) and the rule that",
            "chooses purifier and strength from ID data were settled by a look at gtsrb-3x3,",
            "photo15-8x8 and photo15-7x7; cifar10-3x3 and photo15-3x3 were not looked at.",
            "Detectors are fitted to images that the models were trained on, but for",
            "cifar10-3x3: fewer answers change there than on new images.",
            "",
            "## Targets",
            "",
            "The worst value of each cell; **bold** where it misses the target.",
            "",
            *_targets(table, configs),
            "",
            *_choices(table, configs),
            "",
            *_areas(table, configs, "AUROC against ID"),
            *_areas(table, configs, "AUROC against OOD"),
            *_triage(table, configs),
        ]
    )


def _targets(table: pandas.DataFrame, configs: list[str]) -> list[str]:
    lines = [f"| | target | {' | '.join(configs)} |", "|---" * (len(configs) + 2) + "|"]
    for name, detector, measure, of, low, high in TARGETS:
        worst: Callable[..., float] = min if high == 1 else max
        cells = []
        for config in configs:
            values = [_value(table, config, detector, measure, each) for each in of]
            reached = all(low <= value <= high for value in values)
            shown = f"{worst(values):.3f}"
            if low > 0 and high < 1:
                shown = f"{min(values):.2f}-{max(values):.2f}"
            cells.append(shown if reached else f"**{shown}**")
        wanted = f"≥ {low:g}" if high == 1 else f"≤ {high:g}" if low == 0 else f"{low:g}-{high:g}"
        lines.append(f"| {name} | {wanted} | {' | '.join(cells)} |")
    return lines


def _value(table: pandas.DataFrame, config: str, detector: str, measure: str, of: str) -> float:
    rows = table[
        (table["config"] == config)
        & (table["detector"] == detector)
        & (table["measure"] == measure)
        & (table["of"] == of)
    ]
    return float(rows["value"].iloc[0]) if len(rows) else float("nan")


def _choices(table: pandas.DataFrame, configs: list[str]) -> list[str]:
    chosen = table[table["measure"] == "chosen"].pivot(
        index="config", columns="of", values="value"
    )
    lines = ["| chosen by ID data | purifier | strength / 255 | ID flips | noise left |"]
    lines.append("|---" * 5 + "|")
    for config in configs:
        row = chosen.loc[config]
        cells = (f"{float(row[name]):.2f}" for name in ("strength", "flips", "residual"))
        lines.append(f"| {config} | {row['purifier']} | {' | '.join(cells)} |")
    return lines


def _areas(table: pandas.DataFrame, configs: list[str], measure: str) -> list[str]:
    part = table[table["measure"] == measure]
    sets = [*BOUNDED, *MINIMAL, *SMOOTH]
    sets += [each for each in _NOISE if each in set(part["of"])]
    lines = [f"## {measure}", "", f"| config | detector | {' | '.join(sets)} |"]
    lines.append("|---" * (len(sets) + 2) + "|")
    for config in configs:
        for detector in part["detector"].unique():
            values = [_value(table, config, detector, measure, each) for each in sets]
            cells = " | ".join(f"{value:.3f}" for value in values)
            lines.append(f"| {config} | {detector} | {cells} |")
    return [*lines, ""]


def _triage(table: pandas.DataFrame, configs: list[str]) -> list[str]:
    sets = [f"adv/{each}" for each in (*BOUNDED, *MINIMAL, *SMOOTH)]
    names = ["balanced", "ID", "OOD", *(each.removeprefix("adv/") for each in sets), "passes"]
    lines = [
        "## Triage",
        "",
        "Recall of each set; 5 % of ID may raise an alarm. Balanced: the mean of ID, OOD and the",
        "mean over attacks.",
        "",
        f"| config | confirm | {' | '.join(names)} |",
        "|---" * (len(names) + 2) + "|",
    ]
    for config in configs:
        for how in ("none", "alarm", "always"):
            detector = f"Triage {how}"
            mine = table[(table["config"] == config) & (table["detector"] == detector)]
            recall = mine[mine["measure"] == "recall"].set_index("of")["value"].astype(float)
            ood = recall[[of for of in recall.index if of.startswith("ood/")]].mean()
            adv = [recall[of] if of in recall else float("nan") for of in sets]
            known = [value for value in adv if value == value]
            balanced = (recall["id"] + ood + sum(known) / len(known)) / 3
            passes = _value(table, config, detector, "forward passes", "id")
            cells = " | ".join(f"{v:.3f}" for v in (balanced, recall["id"], ood, *adv, passes))
            lines.append(f"| {config} | {how} | {cells} |")
    return [*lines, ""]
