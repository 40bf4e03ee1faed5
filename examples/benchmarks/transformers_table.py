"""
Which image classifiers of transformers the first-layer detectors read, with no argument but the
model.

Every class that AutoModelForImageClassification knows, from its own configuration made small,
random weights, smooth 8-bit images:

    python examples/benchmarks/transformers_table.py --out transformers.md
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from checked import FITTED, JUDGED, OK, Checked, checked, first_sentence
from tables import save_page
from torch.nn import Module
from transformers.models.auto import modeling_auto

# attributes of configurations that make a model small, where they are there
SMALL: dict[str, Any] = {
    "num_hidden_layers": 2,
    "num_labels": 10,
    # of Perceiver, whose layers repeat
    "num_blocks": 1,
    "num_self_attends_per_block": 1,
}
#: model type -> size of the images, where 64 is not enough
SIZES = dict.fromkeys(
    (
        "clip",
        "donut-swin",
        "metaclip_2",
        "levit",
        "efficientformer",
        "pvt",
        "swiftformer",
        "swin",
    ),
    224,
)
CACHE = Path(".cache/transformers_table.json")


def names() -> dict[str, str | tuple[str, ...]]:
    """:return: model types that have an image classifier in the installed release -> its name"""
    return dict(modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)


def kinds() -> list[str]:
    """:return: those model types"""
    return list(names())


def build(kind: str, size: int) -> Module:
    """:return: the classifier with random weights, few layers where its configuration has them"""
    config = transformers.AutoConfig.for_model(kind)
    for part in (config, *vars(config).values()):
        if not isinstance(part, transformers.PretrainedConfig):
            continue
        for name, value in {**SMALL, "image_size": size}.items():
            known = getattr(part, name, None)
            if name == "num_hidden_layers" and hasattr(part, "depths"):
                continue  # counts stages, each of which has a width
            if isinstance(known, int) or (name == "num_labels" and part is config):
                setattr(part, name, value)
            elif name == "image_size" and isinstance(known, (list, tuple)):
                setattr(part, name, [size] * len(known))
    known = names()[kind]
    config.architectures = [known if isinstance(known, str) else known[0]]
    torch.manual_seed(0)
    model: Module = transformers.AutoModelForImageClassification.from_config(config)
    return model.eval()


def examine(kind: str) -> Checked:
    """:return: what became of the model; refusals in their own words"""
    size = SIZES.get(kind, 64)
    try:
        model = build(kind, size)
    except Exception as error:
        reason = f"not built: {first_sentence(error)}"
        return Checked("", "", "", "", reason, "", "")
    return checked(model, size)


def table(rows: dict[str, Checked]) -> str:
    """:return: the rows in Markdown, those that are refused after the others"""
    read = {kind: row for kind, row in rows.items() if not row.refused}
    lines = [
        "| class | layer | kernel | before it | read of 8/255 | ViyogResidue | SharedForward | "
        "with_score |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join((kind, *vars(row).values()))} |" for kind, row in read.items()]
    right = sum(row.residue == OK for row in read.values())
    lines += ["", f"{right} of {len(read)} that are read are right. Refused, or not built:", ""]
    lines += ["| class | reason |", "|---|---|"]
    lines += [f"| {kind} | {row.residue} |" for kind, row in rows.items() if row.refused]
    return "\n".join(lines)


def main() -> None:
    """Runs the command line; goes on where it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--out", type=Path, help="Markdown file to write; default: print only")
    parser.add_argument("--kinds", nargs="+", metavar="NAME", help="default: all")
    options = parser.parse_args()
    known = json.loads(CACHE.read_text("utf-8")) if CACHE.is_file() else {}
    wanted = options.kinds or kinds()
    for kind in wanted:
        if kind not in known:
            known[kind] = vars(examine(kind))
            CACHE.parent.mkdir(exist_ok=True)
            CACHE.write_text(json.dumps(known), encoding="utf-8")
            print(kind, *known[kind].values(), sep=" | ", flush=True)
    rows = {kind: Checked(**known[kind]) for kind in wanted}
    if options.out is not None:
        heading = HEADING.format(asked=len(rows), all=len(kinds()))
        save_page(options.out, f"{heading}\n\n{table(rows)}", __file__)


HEADING = f"""# Image classifiers of transformers, with no argument but the model

`python examples/benchmarks/transformers_table.py --out \
examples/benchmarks/results/transformers.md`, transformers {transformers.__version__}, torch
{torch.__version__.partition("+")[0]}, {{asked}} of its {{all}} classes, from their own
configurations with two layers where they have such a number. Random weights, images
of 64 px or of what a model needs, {FITTED} smooth 8-bit images to fit and {JUDGED} to judge.
Right: a residue of 8/255 is read within 40 %, clean images show less than 3.2/255, and scores with
it are above those without (`detector.verify`);
SharedForward and with_score give the same scores."""


if __name__ == "__main__":
    main()
