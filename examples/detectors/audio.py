"""
Sound: an attack on a pitch tracker, and what its first convolution shows of it.

torchcrepe's ``tiny`` is a classifier of the pitch of sound, 1024 samples at 16 kHz at a time. Its
first layer is a ``Conv2d`` on an axis of length 1, and its weights come with the package
(``pip install 'pytorch-ood-viyog[audio]'``). Tones are made here:

    python examples/detectors/audio.py

The detector tells changed sound from clean sound. It does *not* tell an attack from white noise
of the same strength: see the last column.
"""

# %%
import argparse
import json
from pathlib import Path

import torch
import torchcrepe
from matplotlib.figure import Figure
from torch import Tensor

from pytorch_ood_viyog import ViyogResidue

parser = argparse.ArgumentParser(description="An attack on a pitch tracker.")
parser.add_argument("--quick", action="store_true", help="fewer sounds and steps, for CI")
parser.add_argument("--out", type=Path, default=Path("output/audio"), help="output folder")
options = parser.parse_args()
FITTED, JUDGED, STEPS = (64, 24, 5) if options.quick else (256, 128, 20)
#: strengths in standard deviations of a frame, which the model gets normalised
STRENGTHS = (0.03, 0.1) if options.quick else (0.01, 0.03, 0.1, 0.3)


def tones(count: int, seed: int) -> Tensor:
    """:return: frames of seven harmonics at random pitches, rounded to 16 bit, normalised"""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(1024) / 16000
    pitch = 80 * 2 ** (3 * torch.rand(count, 1, 1, generator=generator))
    order = torch.arange(1.0, 8.0).view(1, -1, 1)
    size = torch.rand(count, 7, 1, generator=generator) / order
    phase = 6.283 * torch.rand(count, 7, 1, generator=generator)
    sound = (size * torch.sin(6.2832 * pitch * order * time + phase)).sum(dim=1) / 4
    sound = (sound * 32767).round() / 32767
    return (sound - sound.mean(dim=1, keepdim=True)) / sound.std(dim=1, keepdim=True)


def attacked(x: Tensor, strength: float) -> Tensor:
    """:return: frames after PGD away from the pitch that the model hears"""
    heard = model(x).argmax(dim=1, keepdim=True)
    change = torch.zeros_like(x)
    for _ in range(STEPS):
        change.requires_grad_()
        loss = model(x + change).gather(1, heard).clamp_min(1e-6).log().sum()
        (gradient,) = torch.autograd.grad(loss, change)
        change = (change - strength / 4 * gradient.sign()).clamp(-strength, strength).detach()
    return x + change


def auroc(lower: Tensor, higher: Tensor) -> float:
    """:return: share of pairs in which the second kind scores higher"""
    return float((higher[:, None] > lower).double().mean())


# %%
# The detector is fitted to clean tones, and says what it reads.
torchcrepe.load.model("cpu", "tiny")
model = torchcrepe.infer.model.eval().requires_grad_(False)
detector = ViyogResidue(model).fit(tones(FITTED, seed=0).split(64), progress=False)
print(detector.describe())
print(detector.verify(tones(16, seed=2), eps=0.1))

# %%
# Attacks against white noise of the same largest size (random signs).
clean = tones(JUDGED, seed=1)
signs = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3)).sign()
scores = {"clean": detector(clean)}
rows = []
for strength in STRENGTHS:
    adversarial, noisy = attacked(clean, strength), clean + strength * signs
    pgd, noise = (detector(x) for x in (adversarial, noisy))
    moved = (model(adversarial).argmax(dim=1) - model(clean).argmax(dim=1)).abs()
    scores[f"PGD {strength}"], scores[f"noise {strength}"] = pgd, noise
    rows.append(
        {
            "strength": strength,
            "fooled": float((moved > 2).double().mean()),  # by more than 50 cents
            "clean against PGD": auroc(scores["clean"], pgd),
            "clean against noise": auroc(scores["clean"], noise),
            "noise against PGD": auroc(noise, pgd),
        }
    )
    print("  ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()))

# %%
options.out.mkdir(parents=True, exist_ok=True)
(options.out / "audio.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
figure = Figure(figsize=(7, 3), layout="constrained")
axes = figure.subplots()
axes.boxplot(list(scores.values()), tick_labels=list(scores), orientation="horizontal")
axes.set_xlabel("score of ViyogResidue (larger: attack)")
figure.savefig(options.out / "audio.png", dpi=120)
