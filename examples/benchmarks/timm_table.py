"""
Which timm models the first-layer detectors read, with no argument but the model.

One small model of each family, random weights, smooth random images:

    python examples/benchmarks/timm_table.py --out examples/benchmarks/results/timm.md
"""

import timm
import torch
from checked import Checked, checked, make_page
from torch.nn import Module

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
    "visformer": ("visformer_tiny", 64),
    "tiny_vit": ("tiny_vit_5m_224", 64),
    "volo": ("volo_d1_224", 64),
    "convmixer": ("convmixer_768_32", 64),
    "resmlp": ("resmlp_12_224", 64),
    "gmlp": ("gmlp_ti16_224", 64),
    "rexnet": ("rexnet_100", 64),
    "inception_next": ("inception_next_atto", 64),
    "starnet": ("starnet_s1", 64),
    "repvit": ("repvit_m0_9", 64),
    "focalnet": ("focalnet_tiny_srf", 64),
    "nextvit": ("nextvit_small", 64),
    "hgnetv2": ("hgnetv2_b0", 64),
    "pvt_v2": ("pvt_v2_b0", 64),
    "davit": ("davit_tiny", 64),
    "csatv2": ("csatv2", 64),
    "tnt": ("tnt_s_patch16_224", 64),
    "tresnet": ("tresnet_m", 64),
    "naflexvit": ("naflexvit_base_patch16_gap", 64),
}


def build(name: str, size: int) -> Module:
    """:return: the model with random weights, for images of this size"""
    torch.manual_seed(0)
    try:
        model: Module = timm.create_model(name, num_classes=CLASSES, img_size=size)
    except TypeError:  # takes images of any size
        model = timm.create_model(name, num_classes=CLASSES)
    return model.eval()


def examine(family: str) -> Checked:
    """:return: what became of the model of a family"""
    name, size = (TESTED | MORE)[family]
    return checked(build(name, size), size)


ABOUT = f"""# timm models, with no argument but the model

`python examples/benchmarks/timm_table.py --out examples/benchmarks/results/timm.md`, timm
{timm.__version__}, torch {torch.__version__.partition("+")[0]}, {{asked}} of the {{all}} families
that the command knows. A layer `a + b` is one of several convolutions that take the same tensor,
`input > a` one with all that lies before it."""


if __name__ == "__main__":
    make_page(__file__, "family", [*TESTED, *MORE], examine, ABOUT)
