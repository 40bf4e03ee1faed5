"""The page of the benchmark of verdicts: targets first, then every model and rule."""

from math import inf
from pathlib import Path

from pandas import DataFrame
from tables import markdown, save_page
from targets import Target, Value
from verdict_images import PRETRAINED

#: column -> least and largest value that are asked for
TARGETS = {
    "ID alarms": (-inf, 0.07),
    "L∞ 8 → ADV": (0.97, inf),
    "L∞ 4 → ADV": (0.93, inf),
    "minimal L2 → ADV": (0.85, inf),
    "smooth → ADV": (0.6, inf),
    "unseen → not ID": (0.6, inf),
    "OOD → OOD": (0.65, inf),
    "OOD beyond the gate": (0.0, inf),
    "OOD → ADV": (-inf, 0.04),
    "benign → ADV": (-inf, 0.04),
    "worst benign → ADV": (-inf, 0.1),
    "four-way": (0.85, inf),
    "ece": (-inf, 0.05),
    "passes": (-inf, 1.4),
    "fit_cpu_s": (-inf, 30.0),
}
#: what is asked for at 224 pixels instead
LARGE = {"passes": (-inf, 1.15), "fit_cpu_s": (-inf, 180.0)}

_INTRODUCTION = """\
# Verdicts

`python examples/benchmarks/verdicts.py --data DATA_FOLDER` with `--models` as below and
`--rules learnt`: shares of verdicts, learnt rule and the cascades that came before it (run on
their own commit). Attacks are in 8 bit and fool the
model. *L∞ 8* is the mean of FGSM and PGD, *minimal L2* of DeepFool, Carlini-Wagner and DDN,
*unseen* of Square, sparse, rotated and patch attacks, nothing like which is simulated.
*four-way* is the mean of ID, OOD, attacks (L∞ 8 to 2, DeepFool and CW, smooth) and benign changes.
*OOD beyond the gate*: what the rule finds of OOD, less what the energy of the logits alone finds
with as many alarms on the same ID images. *asked*: share of ID images that the model is
asked about again; *passes*: CPU time of `predict` on ID images in plain forward passes; *ece*:
expected calibration error on a mixture of the four. Budgets, views of the second look,
`ask_share`, the weights of an alarm and the ways that foreign images are remade were chosen by a
look at gtsrb-3x3 and photo15-3x3, and then compared on the two other models.

## Targets

The learnt rule with default settings, **bold** where it misses.
"""


def report(rows: DataFrame, path: Path, script: str) -> str:
    """
    :param rows: one a model and rule
    :param path: file to write
    :param script: file that made the rows
    :return: the page, which is then in the file
    """
    columns = [name for name in rows if name not in ("model", "rule")]
    learnt = rows[rows["rule"] == "learnt"]
    head = ["target", *learnt["model"]]
    lines = [[f"{name} {_asked(name)}", *_cells(learnt, name)] for name in TARGETS]
    small = rows[rows["model"] != PRETRAINED]
    means = small.groupby("rule", sort=False)[columns].mean().reset_index()
    means.insert(0, "model", [f"mean of {sum(small['rule'] == rule)}" for rule in means["rule"]])
    text = "\n\n".join(
        [
            _INTRODUCTION.rstrip(),
            markdown([head, *lines]),
            "## All rules",
            _table(means, columns),
            _table(rows, columns),
        ]
    )
    return save_page(path, text, script).read_text(encoding="utf-8")


def _asked(column: str) -> str:
    low, high = TARGETS[column]
    text = f"≤ {high:g}" if low == -inf else f"≥ {low:g}"
    return f"{text} (224 px: ≤ {LARGE[column][1]:g})" if column in LARGE else text


def _cells(learnt: DataFrame, column: str) -> list[str]:
    cells = []
    for model, number in zip(learnt["model"], learnt[column], strict=True):
        asked = LARGE if model == PRETRAINED and column in LARGE else TARGETS
        target = Target(column, lambda rows: None, *asked[column])
        cells.append("" if number != number else target.cell(Value(float(number))))
    return cells


def _table(rows: DataFrame, columns: list[str]) -> str:
    body = [
        [row["model"], row["rule"], *("" if v != v else f"{v:.3f}" for v in row[columns])]
        for _, row in rows.iterrows()
    ]
    return markdown([["model", "rule", *columns], *body])
