"""Tables of the way an image takes."""

from ways_pipelines import versions

__all__ = ["report"]


def report(tables: dict[str, list[dict]], sizes: tuple[int, int, int]) -> str:
    """
    :param tables: title -> rows, shares as floats
    :param sizes: photographs in original sizes, photographs fitted on, photographs attacked
    :return: Markdown
    """
    images, fitted, attacked = sizes
    parts = [
        "# The way an image takes",
        "",
        f"`python examples/benchmarks/ways.py --images ORIGINALS --fit OTHERS`: {fitted} other "
        f"photographs at 224 px to fit on, thresholds (5 %) on {images // 2} of {images} "
        f"photographs in original sizes, false alarms on the other {images - images // 2}, "
        f"{attacked} of these attacked. EfficientNet-Lite0 with pretrained weights; {versions()}.",
        "",
        "`residues behind`: fitted on images that went through the codec, residues added behind "
        "it; `through`: `through=` that codec. `fool N`: share of PGD N/255 that still fools the "
        "model behind the codec; the other columns are of those, above the threshold of "
        "ViyogResidue, of ResidueAlarm, of either. `found by SameWay`: checks of 50 photographs "
        "with p < .01, against the others as Pillow brings them.",
    ]
    for title, rows in tables.items():
        names = list(rows[0])
        parts += ["", f"## {title}", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
        parts += [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in rows]
    return "\n".join(parts) + "\n"


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
