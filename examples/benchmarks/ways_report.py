"""The page of the way an image takes: targets first, then the tables behind them."""

from pathlib import Path

from tables import markdown, save_page
from ways_libraries import CALIBRATED, CHECKED, CHECKS, STREAM, STREAMS
from ways_pipelines import REFERENCE, versions
from ways_rows import FIVE, LEARNT, Rows

__all__ = ["report"]

# share of false alarms from which a way is harmful
_HARMFUL = 0.10
# level of PGD, codec after it, and how many of these attacks are to be found
_BEHIND = (
    (8, "JPEG 95 4:2:0", 0.85),
    (8, "WebP 80", 0.60),
    (8, "JPEG 75", 0.40),
    (8, "one of five", 0.60),
    (4, "JPEG 95 4:4:4", 0.60),
)
# what each table is, by its name
_TITLES = {
    "verdicts": f"Verdicts behind codecs\n\n`Triage(model, through=..., simulate_on={LEARNT})`; "
    "`fool N`: share of PGD N/255 that still fools the model behind the codec, of which `ADV N` "
    "are called ADV and `alarm N` anything but ID.",
    "codecs": "Scores behind codecs\n\n`residues behind`: ViyogResidue fitted on images that went "
    "through the codec, residues added behind it; `through`: `through=` that codec. `ADV`: share "
    "above its `least_adv`; `residue`, `alarm`: above the thresholds (5 %) of ViyogResidue and "
    "ResidueAlarm. `FP`: of clean images; 8, 4: of PGD N/255 that still fools.",
    "libraries": "Libraries, fitted on the Pillow way\n\n`FP`: shares of clean images, as above. "
    f"`found by SameWay`: {CHECKS} checks of {CHECKED} photographs with p < .01, against others "
    f"as Pillow brings them. The stream: median of {STREAMS} streams, {CALIBRATED} calibration "
    "images, all drawn with replacement; of Pillow's own way, alarms among all images.",
    "other ways": "Fitted on one way, met another\n\nEach half of the photographs in original "
    "sizes is fitted on in turn, and of the other half, each half sets thresholds (5 %, the way "
    "of the fit) in turn. `PGD 4: ADV`: share above `least_adv`.",
    "cost": "Cost\n\nCPU time of `predict` as a multiple of that without a look at the kind of "
    "images and at constant windows; one thread, medians of interleaved pairs, random weights.",
}


def report(path: Path, tables: dict[str, Rows], sizes: tuple[int, int, int]) -> str:
    """
    :param path: where to write it
    :param tables: name -> rows, shares as floats
    :param sizes: photographs in original sizes, photographs fitted on, photographs attacked
    :return: Markdown
    """
    images, fitted, attacked = sizes
    parts = [
        "# The way an image takes",
        f"`python examples/benchmarks/ways.py --images ORIGINALS --fit OTHERS`: {fitted} other "
        f"photographs at 224 px to fit on, thresholds on {images // 2} of {images} photographs "
        f"in original sizes, false alarms on the other {images - images // 2}, {attacked} of "
        f"these attacked. A share of {attacked} has a standard error of up to "
        f"{0.5 / attacked**0.5:.2f}. EfficientNet-Lite0 with pretrained weights. "
        f"*One of five*: {', '.join(FIVE)}, one drawn for each image. {versions()}.",
        "## Targets\n\n**Bold** where it misses.",
        markdown([["", "without it", "target", "reached"], *_targets(tables)]),
    ]
    for name, rows in tables.items():
        if not rows:
            continue
        lines = [list(rows[0]), *([_cell(row[column]) for column in rows[0]] for row in rows)]
        parts += [f"## {_TITLES[name]}", markdown(lines)]
    return save_page(path, "\n\n".join(parts), __file__.replace("_report", "")).read_text("utf-8")


def _targets(tables: dict[str, Rows]) -> list[list[str]]:
    """A line for each target whose table is there."""
    lines: list[list[str]] = []

    def add(what: str, before: float | str, target: str, reached: float, met: bool) -> None:
        shown = f"{reached:.3f}" if "1.03" in target else f"{reached:.2f}"
        lines.append([what, _cell(before), target, shown if met else f"**{shown}**"])

    verdicts = {(row["behind"], row["through"]): row for row in tables.get("verdicts", [])}
    if verdicts:
        for level, codec, least in _BEHIND:
            if (codec, codec) not in verdicts:
                continue
            before = verdicts[codec, "none"][f"ADV {level}"]
            found = float(verdicts[codec, codec][f"ADV {level}"])
            what = f"PGD {level}/255, then {codec}: called ADV by Triage"
            add(what, before, f"≥ {least:.2f}", found, found >= least)
        own = [
            float(row["false alarms"])
            for (met, way), row in verdicts.items()
            if met == way != "none"
        ]
        if own:
            what = "false alarms of Triage on the fitted way, worst"
            add(what, "–", "≤ 0.06", max(own), max(own) <= 0.06)
        plain = float(verdicts["none", "none"]["ADV 8"])
        lost = [plain - float(r["ADV 8"]) for (met, way), r in verdicts.items() if met == "none"]
        what = "no codec: ADV recall at 8/255 that `through=` costs, worst"
        add(what, plain, "≤ 0.03", max(lost), max(lost) <= 0.03)
    codecs = {(row["behind"], row["residues"]): row for row in tables.get("codecs", [])}
    for level, codec, least in _BEHIND:
        if (codec, "through") in codecs:
            row = codecs[codec, "through"]
            found = max(float(row[f"{level}: {name}"]) for name in ("residue", "alarm"))
            plain = codecs.get((codec, "behind"), {}).get(f"{level}: residue", "–")
            what = f"PGD {level}/255, then {codec}: above the threshold, the better detector"
            add(what, plain, f"≥ {least:.2f}", found, found >= least)
    own = [_worst(row) for row in codecs.values() if row["residues"] == "through"]
    if own:
        what = "false alarms on the fitted way, the worse detector, worst codec"
        add(what, "–", "≤ 0.06", max(own), max(own) <= 0.06)
    ways = {row["way"]: row for row in tables.get("libraries", [])}
    if "letterbox" in ways:
        worst = _worst(ways["letterbox"])
        add("letterbox, false alarms, the worse detector", "–", "≤ 0.08", worst, worst <= 0.08)
        harmful = [
            row for name, row in ways.items() if name != REFERENCE and _worst(row) > _HARMFUL
        ]
        power = min((float(row["found by SameWay"]) for row in harmful), default=1.0)
        what = f"SameWay, {CHECKED} images: least power, ways of more than 10 % false alarms"
        add(what, "–", "≥ 0.95", power, power >= 0.95)
        false = float(ways[REFERENCE]["found by SameWay"])
        add("SameWay: false alarms of a check", "–", "≤ 0.01", false, false <= 0.01)
        alarms = int(str(ways[REFERENCE]["images until the stream's alarm"]).split()[0])
        per = alarms / STREAMS
        add(f"SameWay, stream: false alarms in {STREAM:,} images", "–", "≤ 1", per, per <= 1)
    costs = [
        float(v) for row in tables.get("cost", []) for v in row.values() if isinstance(v, float)
    ]
    if costs:
        add(
            "time of predict with the checks, worst", "–", "≤ 1.03", max(costs), max(costs) <= 1.03
        )
    return lines


def _worst(row: dict[str, str | float]) -> float:
    return max(float(row["FP: residue"]), float(row["FP: alarm"]))


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
