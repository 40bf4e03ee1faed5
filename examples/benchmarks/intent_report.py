"""The numbers of the benchmark of intent as rows, and as tables against the targets."""

from collections.abc import Sequence

import pandas
from intent_scores import ALARM, INTENT, JOINED, RESIDUE, Scores
from pandas import DataFrame
from second_look_rows import area
from tables import markdown
from targets import Target, Value
from torch import Tensor, cat

from pytorch_ood_viyog.triage.rule.conformal import conformal_threshold

AT_8, AT_4 = ("fgsm8", "pgd8", "bim8"), ("pgd4",)
WEAK = ("pgd2", "deepfool", "cw")
_FALSE_ALARMS = 0.05

Row = dict[str, object]


def rows(config: str, residues: str, scores: Scores, times: dict[str, float]) -> list[Row]:
    """
    :param config: name of the configuration
    :param residues: what shaped the simulated attacks
    :param scores: of all detectors and images
    :param times: seconds of CPU time
    :return: a row for each number: config, residues, measure, detector, of, against, value, n
    """
    found = [
        *_area_rows(scores),
        *_verdict_rows(scores),
        *({"measure": "seconds", "of": name, "value": value} for name, value in times.items()),
    ]
    columns = ("config", "residues", "measure", "detector", "of", "against", "value", "n")
    return [
        {**dict.fromkeys(columns), **row, "config": config, "residues": residues} for row in found
    ]


def _area_rows(scores: Scores) -> list[Row]:
    found = []
    for detector in (RESIDUE, INTENT, JOINED):
        own = scores[detector]
        ood = cat([x for name, x in own.items() if _kind(name) == "OOD"])
        changed = {name: x for name, x in own.items() if name.startswith("benign/")}
        negatives = {"id": own["id"], "ood": ood} | changed
        for attack, positives in own.items():
            if not attack.startswith("adv/"):
                continue
            for name, values in negatives.items():
                row = {"measure": "AUROC", "detector": detector, "n": len(positives)}
                row |= {"of": attack.removeprefix("adv/"), "against": name}
                found.append(row | {"value": area(values, positives)})
    return found


def called_adv(scores: Scores) -> dict[str, Tensor]:
    """
    :param scores: of all detectors and images
    :return: images -> whether each is called ADV, at 5 % alarms on clean ID images and an intent
        that 5 % of ID images with a random benign change exceed
    """
    alarm = _limit(scores[ALARM]["calibration"])
    intent = _limit(scores[INTENT]["calibration, changed"])
    return {
        name: (alarms > alarm) & (scores[INTENT][name] > intent)
        for name, alarms in scores[ALARM].items()
        if name != "calibration"
    }


def _limit(known: Tensor) -> float:
    return conformal_threshold(known, _FALSE_ALARMS)


def _verdict_rows(scores: Scores) -> list[Row]:
    alarm = _limit(scores[ALARM]["calibration"])
    found: list[Row] = []
    for name, called in called_adv(scores).items():
        row: Row = {"of": name, "n": len(called)}
        alarms = (scores[ALARM][name] > alarm).double().mean()
        found += [
            row | {"measure": "called ADV", "value": float(called.double().mean())},
            row | {"measure": "alarms", "value": float(alarms)},
        ]
    return found


def _t4(table: DataFrame, attacks: Sequence[str] | None = None) -> DataFrame:
    own = table[(table["measure"] == "AUROC") & (table["detector"] == INTENT)]
    own = own[own["against"].str.startswith("benign/", na=False)]
    return own if attacks is None else own[own["of"].isin(attacks)]


def _mean(found: DataFrame) -> Value | None:
    return Value(float(found["value"].mean())) if len(found) else None


def _worst_pair(table: DataFrame) -> Value | None:
    found = _t4(table)
    if found.empty:
        return None
    worst = found.loc[found["value"].idxmin()]
    change = worst["against"].removeprefix("benign/")
    return Value(float(worst["value"]), f"{worst['of']}, {change}")


def _called(table: DataFrame, pattern: str) -> DataFrame:
    own = table[table["measure"] == "called ADV"]
    return own[own["of"].str.fullmatch(pattern)]


def _worst_benign(table: DataFrame) -> Value | None:
    found = _called(table, "benign/.*")
    if found.empty:
        return None
    worst = found.loc[found["value"].idxmax()]
    return Value(float(worst["value"]), worst["of"].removeprefix("benign/"))


def _change(table: DataFrame, against: str) -> Value | None:
    """The largest loss of the joined score over the attacks."""
    own = table[(table["measure"] == "AUROC") & (table["against"] == against)]
    by_detector = own.pivot_table(index="of", columns="detector", values="value")
    if by_detector.empty:
        return None
    change = by_detector[JOINED] - by_detector[RESIDUE]
    return Value(float(change.min()), str(change.idxmin()))


def _slower(table: DataFrame) -> Value | None:
    own = table[table["measure"] == "seconds"].set_index("of")["value"]
    if own.empty:
        return None
    return Value(float(own[f"predict {INTENT}"] / own[f"predict {RESIDUE}"]))


def _attacks(names: Sequence[str]) -> str:
    return f"adv/({'|'.join(names)})"


TARGETS = [
    Target("T4, attacks at 8 and 4/255 ≥ .97", lambda t: _mean(_t4(t, (*AT_8, *AT_4))), low=0.97),
    Target("T4, PGD 2/255, DeepFool, CW ≥ .93", lambda t: _mean(_t4(t, WEAK)), low=0.93),
    Target("T4, worst pair ≥ .85", _worst_pair, low=0.85),
    Target("benign called ADV ≤ .05", lambda t: _mean(_called(t, "benign/.*")), high=0.05),
    Target("benign called ADV, worst ≤ .15", _worst_benign, high=0.15),
    Target("8/255 called ADV ≥ .90", lambda t: _mean(_called(t, _attacks(AT_8))), low=0.9),
    Target("4/255 called ADV ≥ .80", lambda t: _mean(_called(t, _attacks(AT_4))), low=0.8),
    Target("ID-vs-ADV, joined score, change ≥ -.005", lambda t: _change(t, "id"), low=-0.005),
    Target("OOD-vs-ADV, joined score, change ≥ -.005", lambda t: _change(t, "ood"), low=-0.005),
    Target("OOD with noise called ADV ≤ .10", lambda t: _mean(_called(t, "ood/.*/.*")), high=0.1),
    Target("predict, times ViyogResidue's ≤ 1.15", _slower, high=1.15),
]


def report(table: DataFrame) -> str:
    """
    :param table: the rows of all configurations
    :return: Markdown: the targets, then what is behind them
    """
    parts = [
        "# Intent: an attack, or benign noise?",
        "Made by `python examples/benchmarks/intent.py --data DATA_FOLDER` and `--images ... "
        "--ood ...`. Attacks are rounded to 8 bit and count where they still succeed; AUROC keeps "
        "its direction; images for fitting, calibration and measuring are disjoint. *T4*: ADV "
        "against ID images with a benign change, by `ViyogIntent`. *Called ADV*: at 5 % alarms on "
        "clean ID images (`ResidueAlarm`) and an intent that 5 % of ID images with a random "
        "simulated change exceed. *Joined*: the score of `ViyogResidue(intent=...)`.",
    ]
    for residues, own in table.groupby("residues", sort=False):
        parts += [f"## Residues shaped by {residues}", _target_table(own)]
        parts += ["Called ADV (alarms in brackets):", _share_table(own)]
        parts += ["T4 by benign change, mean over attacks at 8 and 4/255:", _t4_table(own)]
        parts += [
            "Benign-vs-ADV, mean over changes and attacks at 8 and 4/255, by score; seconds "
            "of CPU to fit:",
            _score_table(own),
        ]
    return "\n\n".join(parts) + "\n"


def _kind(images: str) -> str:
    """What images are, for people to read; OOD sets are one kind."""
    first, _, rest = str(images).partition("/")
    if first == "ood":
        return f"OOD, {rest.partition('/')[2]}" if "/" in rest else "OOD"
    return {"id": "ID", "benign": f"ID, {rest}", "adv": f"ADV, {rest}"}.get(first, str(images))


def _by_config(table: DataFrame) -> dict[str, DataFrame]:
    return {str(name): own for name, own in table.groupby("config", sort=False)}


def _target_table(table: DataFrame) -> str:
    configs = _by_config(table)
    lines = [["target", *configs, "met"]]
    for target in TARGETS:
        values = [target.read(own) for own in configs.values()]
        met = sum(value is not None and target.met(value) for value in values)
        known = sum(value is not None for value in values)
        cells = [target.cell(value) for value in values]
        lines.append([target.name, *cells, f"{met} of {known}"])
    return markdown(lines)


def _share_table(table: DataFrame) -> str:
    configs = _by_config(table)
    lines = [["images", *configs]]
    for kind in table[table["measure"] == "called ADV"]["of"].map(_kind).unique():
        cells = []
        for own in configs.values():
            same = own[own["of"].map(_kind) == kind]
            called, alarms = (
                same[same["measure"] == measure]["value"].mean()
                for measure in ("called ADV", "alarms")
            )
            cells.append("" if pandas.isna(called) else f"{called:.2f} ({alarms:.2f})")
        lines.append([kind, *cells])
    return markdown(lines)


def _t4_table(table: DataFrame) -> str:
    found = _t4(table, (*AT_8, *AT_4))
    by_change = found.pivot_table(index="against", columns="config", values="value", sort=False)
    lines = [["change", *by_change.columns]]
    for change, values in by_change.iterrows():
        cells = ["" if pandas.isna(value) else f"{value:.3f}" for value in values]
        lines.append([str(change).removeprefix("benign/"), *cells])
    return markdown(lines)


def _score_table(table: DataFrame) -> str:
    configs = _by_config(table)
    lines = [["score", *configs]]
    for detector in (RESIDUE, JOINED, INTENT):
        cells = []
        for own in configs.values():
            areas = own[(own["measure"] == "AUROC") & (own["detector"] == detector)]
            areas = areas[areas["against"].str.startswith("benign/")]
            cells.append(f"{areas[areas['of'].isin((*AT_8, *AT_4))]['value'].mean():.3f}")
        lines.append([detector, *cells])
    for name in (RESIDUE, INTENT):
        seconds = [own[own["of"] == f"fit {name}"]["value"].sum() for own in configs.values()]
        lines.append([f"fit of {name}, s", *(f"{value:.0f}" for value in seconds)])
    sizes = [f"{own['sample_size'].iloc[0]:.0f}" for own in configs.values()]
    lines.append(["ID images simulated on, at most", *sizes])
    counts = [own[own["of"] == "id"]["n"].iloc[0] for own in configs.values()]
    lines.append(["ID images measured on", *(f"{count:.0f}" for count in counts)])
    return markdown(lines)
