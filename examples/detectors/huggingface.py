"""
Hugging Face models: their outputs are objects, so say where the logits are.

A ViT and a ConvNeXt V2 of transformers, small and with random weights; nothing is downloaded:

    pip install transformers
    python examples/detectors/huggingface.py
"""

# %%
import torch
from pytorch_ood.detector import KNN, EnergyBased
from torch.nn.functional import interpolate
from transformers import (
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from pytorch_ood_viyog import SharedForward, ViyogResidue

torch.manual_seed(0)
images = interpolate(torch.rand(64, 3, 16, 16), 64, mode="bilinear")
labels = torch.arange(64) % 10

models = [
    ViTForImageClassification(
        ViTConfig(
            image_size=64,
            patch_size=8,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_labels=10,
        )
    ),
    ConvNextV2ForImageClassification(
        ConvNextV2Config(hidden_sizes=[24, 32, 40, 48], depths=[1, 1, 1, 1], num_labels=10)
    ),
]

# %%
# The first layer and the head are found as in any model; the logits are an attribute of the
# output.
for model in models:
    pipeline = SharedForward(
        model.eval(),
        {"energy": EnergyBased(None), "knn": KNN(None, k=5), "residue": ViyogResidue(None)},
        logits=lambda output: output.logits,
    )
    pipeline.fit([(images, labels)])

    attacked = images + 8 / 255 * torch.randn_like(images).sign()
    clean, noisy = pipeline.predict(images), pipeline.predict(attacked)
    print(f"{type(model).__name__}: first layer {pipeline['residue'].layer}")
    for name in pipeline.detectors:
        print(f"  {name:8} {clean[name].mean():8.3f} -> {noisy[name].mean():8.3f} with residue")
