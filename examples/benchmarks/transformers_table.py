"""
Which image classifiers of transformers the first-layer detectors read, with no argument but the
model.

Every class that AutoModelForImageClassification knows, from its own configuration made small,
random weights, smooth 8-bit images:

    python examples/benchmarks/transformers_table.py --out transformers.md
"""

from typing import Any

import torch
import transformers
from checked import Checked, checked, first_sentence, make_page
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
#: model type that has an image classifier in the installed release -> its name, or several
NAMES = dict(modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)


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
    known = NAMES[kind]
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


ABOUT = f"""# Image classifiers of transformers, with no argument but the model

`python examples/benchmarks/transformers_table.py --out \
examples/benchmarks/results/transformers.md`, transformers {transformers.__version__}, torch
{torch.__version__.partition("+")[0]}, {{asked}} of its {{all}} classes, from their own
configurations with two layers where they have such a number."""


if __name__ == "__main__":
    make_page(__file__, "class", [*NAMES], examine, ABOUT)
