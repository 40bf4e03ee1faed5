"""
Which timm models the first-layer detectors read, with no argument but the model.

One small model of each family, random weights, smooth random images:

    python examples/benchmarks/timm_table.py --out examples/benchmarks/results/timm.md
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from pytorch_ood.detector import KNN, MaxSoftmax
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import interpolate

from pytorch_ood_viyog import SharedForward, Viyog, ViyogResidue, ViyogTV

SAMPLES = 16
CLASSES = 10

#: family -> smallest model of it and the image size to build it for; these are tested
TESTED = {
    "tf_efficientnet": ("tf_efficientnet_b0", 64),
    "resnetv2 (BiT)": ("resnetv2_50x1_bit", 64),
    "nfnet": ("nfnet_l0", 64),
    "resnet": ("resnet18", 64),
    "convnext": ("convnext_atto", 64),
    "swin": ("swin_tiny_patch4_window7_224", 64),
    "vit": ("vit_tiny_patch16_224", 64),
    "deit3": ("deit3_small_patch16_224", 64),
    "beit": ("beit_base_patch16_224", 64),
    "eva02": ("eva02_tiny_patch14_224", 70),
    "mobilenetv3": ("mobilenetv3_small_050", 64),
    "mobilenetv4": ("mobilenetv4_conv_small_035", 64),
    "mobilevit": ("mobilevit_xxs", 64),
    "efficientvit": ("efficientvit_b0", 64),
    "edgenext": ("edgenext_xx_small", 64),
    "regnet": ("regnetx_002", 64),
    "res2net": ("res2net50_26w_4s", 64),
    "densenet": ("densenet121", 64),
    "hrnet": ("hrnet_w18_small", 64),
    "coatnet": ("coatnet_nano_rw_224", 64),
    "maxvit": ("maxvit_tiny_rw_224", 64),
    "levit": ("levit_128s", 224),
    "poolformer": ("poolformer_s12", 64),
    "mixer": ("mixer_s32_224", 224),
    "xcit": ("xcit_nano_12_p16_224", 64),
    "cait": ("cait_xxs24_224", 64),
    "ghostnet": ("ghostnet_050", 64),
    "repvgg": ("repvgg_a0", 64),
    "fastvit": ("fastvit_t8", 64),
    "crossvit": ("crossvit_tiny_240", 240),
    "dla": ("dla34", 64),
}
#: further ones, for the table
MORE = {
    "eca_nfnet": ("eca_nfnet_l0", 64),
    "dm_nfnet": ("dm_nfnet_f0", 64),
    "vgg": ("vgg11_bn", 64),
    "inception_v3": ("inception_v3", 96),
    "mobileone": ("mobileone_s0", 64),
    "efficientvit (MSRA)": ("efficientvit_m0", 224),
    "pit": ("pit_ti_224", 224),
    "twins": ("twins_svt_small", 224),
    "visformer": ("visformer_tiny", 224),
    "tiny_vit": ("tiny_vit_5m_224", 224),
    "volo": ("volo_d1_224", 224),
    "convmixer": ("convmixer_768_32", 64),
    "resmlp": ("resmlp_12_224", 224),
    "gmlp": ("gmlp_ti16_224", 224),
    "rexnet": ("rexnet_100", 64),
    "inception_next": ("inception_next_atto", 64),
    "starnet": ("starnet_s1", 64),
    "repvit": ("repvit_m0_9", 64),
    "focalnet": ("focalnet_tiny_srf", 64),
    "nextvit": ("nextvit_small", 64),
    "hgnetv2": ("hgnetv2_b0", 64),
    "pvt_v2": ("pvt_v2_b0", 64),
    "davit": ("davit_tiny", 224),
}

OK = "ok"


@dataclass(frozen=True)
class Row:
    """What became of one model; the last four entries are ``ok`` or the reason why not."""

    family: str
    layer: str
    kernel: str
    stride: str
    #: quiet directions among the channels that ViyogResidue reads, at most 64 in two dimensions
    directions: int
    viyog: str
    tv: str
    residue: str
    shared: str


def build(name: str, size: int) -> Module:
    """:return: the model with random weights, for images of this size"""
    torch.manual_seed(0)
    try:
        model: Module = timm.create_model(name, num_classes=CLASSES, img_size=size)
    except TypeError:  # takes images of any size
        model = timm.create_model(name, num_classes=CLASSES)
    return model.eval()


def smooth_images(size: int) -> Tensor:
    """:return: images without fine detail, as natural ones have little"""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(SAMPLES, 3, size // 4, size // 4, generator=generator)
    return interpolate(coarse, size, mode="bilinear")


def examine(family: str, name: str, size: int) -> Row:
    """
    :param family: name of the family
    :param name: name of one of its models
    :param size: size of the images
    :return: which layer is read, and whether all detectors fit and predict
    """
    model, images = build(name, size), smooth_images(size)
    detectors = [Viyog(model), ViyogTV(model), ViyogResidue(model)]
    outcomes = [_try(detector, images) for detector in detectors]
    residue = detectors[-1]
    kernel, stride, directions = "", "", 0
    if outcomes[-1] == OK:
        state = residue.state_dict()["tensors"]
        kernel, stride = ("×".join(map(str, row)) for row in state["geometry"][:2].tolist())
        directions = len(state["local"])
    shared = _try_shared(model, images)
    return Row(family, residue.layer_name or "", kernel, stride, directions, *outcomes, shared)


def _try(detector: Viyog | ViyogTV | ViyogResidue, images: Tensor) -> str:
    try:
        scores = detector.fit(images.split(SAMPLES // 2), progress=False)(images)
    except Exception as error:
        return _first_sentence(error)
    return OK if bool(scores.isfinite().all()) else "scores are not finite"


def _try_shared(model: Module, images: Tensor) -> str:
    detectors = {"msp": MaxSoftmax(None), "knn": KNN(None, k=5), "residue": ViyogResidue(None)}
    batch = images, torch.arange(SAMPLES) % CLASSES
    try:
        pipeline = SharedForward(model, detectors).fit([batch], progress=False)
        pipeline.predict(images)
    except Exception as error:
        return _first_sentence(error)
    return OK


def _first_sentence(error: Exception) -> str:
    return str(error).partition(". ")[0]


def table(rows: list[Row]) -> str:
    """:return: the rows in Markdown"""
    lines = [
        "| family | first layer | kernel | stride | directions | Viyog | ViyogTV | ViyogResidue "
        "| SharedForward |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append("| " + " | ".join(str(value) for value in vars(row).values()) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--out", type=Path, help="Markdown file to write; default: print only")
    parser.add_argument("--families", nargs="+", metavar="NAME", help="default: all")
    options = parser.parse_args()
    families = TESTED | MORE
    rows = []
    for family in options.families or families:
        rows.append(examine(family, *families[family]))
        print(*vars(rows[-1]).values(), sep=" | ", flush=True)
    if options.out is not None:
        options.out.write_text(f"{HEADING}\n\n{table(rows)}\n", encoding="utf-8")


HEADING = f"""# timm models, with no argument but the model

`python examples/benchmarks/timm_table.py --out examples/benchmarks/results/timm.md`, timm
{timm.__version__}, random weights, {SAMPLES} smooth random images. Kernel and stride are those of
the effective convolution, as far as its weights are not zero; directions are those among the
channels that ViyogResidue reads (at most 64). A first layer named `a + b` is one of
several convolutions that take the same tensor and are read together."""


if __name__ == "__main__":
    main()
