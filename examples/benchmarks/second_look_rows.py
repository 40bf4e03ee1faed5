"""The numbers of the second look's benchmark as rows of one table."""

from collections.abc import Mapping

import torch
from second_look_scores import BASELINES, Answers
from sklearn.metrics import roc_auc_score
from torch import Tensor

DETECTORS = ("ViyogResidue", "SecondLook", *BASELINES)
# what was found for a group -> its name in the table
ANSWERS = {
    "overruled": "answers that change",
    "changed": "second answers that differ",
    "right": "second answer is right",
    "stands and is right": "answer that overrules is right",
}

Row = dict[str, object]


def area(negatives: Tensor, positives: Tensor) -> float:
    """:return: AUROC with the positives scoring higher, never folded"""
    truth = torch.cat([torch.zeros(len(negatives)), torch.ones(len(positives))])
    return float(roc_auc_score(truth, torch.cat([negatives, positives]).double()))


def rows(config: str, answers: Answers) -> list[Row]:
    """:return: a row for each number: config, detector, measure, of what, value, samples"""
    groups = answers.groups
    scored = [name for name in DETECTORS if name in groups["id"]]
    found = [row for detector in scored for row in _score_rows(config, detector, groups)]
    for name, measure in ANSWERS.items():
        for group, values in groups.items():
            if name in values:
                of = group.removeprefix("adv/")
                found.append(_row(config, "SecondLook", measure, of, values[name]))
    for name, value in answers.choice.items():
        found.append(_row(config, "SecondLook", "chosen", name, value))
    return found


def _score_rows(
    config: str, detector: str, groups: Mapping[str, Mapping[str, Tensor]]
) -> list[Row]:
    known = groups["id"][detector]
    ood = [values[detector] for group, values in groups.items() if group.startswith("ood/")]
    found = []
    for group, of_group in groups.items():
        values = of_group[detector]
        if group.startswith(("adv/", "noise/")) and len(values):
            of, samples = group.removeprefix("adv/"), len(values)
            against = {"ID": known}
            if group.startswith("adv/"):
                against["OOD"] = torch.cat(ood)
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
