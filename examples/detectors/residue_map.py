"""
Residue maps: where in an image is the attack?

PGD of 8/255 changes a quarter of each photograph, at a random place, and nothing beside it.
Photographs and the weights of the classifier come with installed packages, and it takes some
seconds on a CPU:

    python examples/detectors/residue_map.py

It is a demonstration on a few images.
"""

# %%
import argparse
from pathlib import Path

import torch
from packaged_images import PHOTOGRAPHS, crops, halves, read

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.benchmark.model_names import named_model
from pytorch_ood_viyog.evaluation import plot_residue_map

parser = argparse.ArgumentParser(description="Where in an image an attack is.")
parser.add_argument("--quick", action="store_true", help="fewer images and steps, for CI")
parser.add_argument("--out", type=Path, default=Path("output/residue_map"), help="output folder")
options = parser.parse_args()
torch.manual_seed(0)

# %%
# A classifier of images in [0, 1]. The detector sees one half of each photograph, and is asked
# about the other.
model = named_model("efficientnet-lite0")
files = list(PHOTOGRAPHS.values())[: 4 if options.quick else None]
pairs = [halves(read(*file)) for file in files]
rows = 2 if options.quick else 3
id_images = torch.cat([crops(seen, rows, rows) for seen, _ in pairs])
asked = list(PHOTOGRAPHS)[: 2 if options.quick else 3]
unseen = dict(zip(PHOTOGRAPHS, (half for _, half in pairs), strict=False))
clean = torch.cat([crops(unseen[name], 1, 1) for name in asked])

# %%
# The attacks, rounded to 8 bit, and where they are.
with torch.no_grad():
    answers = model(clean).argmax(dim=1)
inside = torch.zeros_like(clean[:, :1])
half = min(clean.shape[2:]) // 2
for one in inside:
    top, left = (int(torch.randint(size - half + 1, ())) for size in clean.shape[2:])
    one[:, top : top + half, left : left + half] = 1
steps = 3 if options.quick else 10
change = (2 * torch.rand(clean.shape) - 1) * 8 / 255 * inside
for _ in range(steps):
    change.requires_grad_()
    loss = torch.nn.functional.cross_entropy(model((clean + change).clamp(0, 1)), answers)
    (gradient,) = torch.autograd.grad(loss, change)
    moved = change.detach() + 2.5 / steps * 8 / 255 * gradient.sign() * inside
    change = moved.clamp(-8 / 255, 8 / 255)
attacked = ((clean + change).clamp(0, 1) * 255).round() / 255
with torch.no_grad():
    changed = model(attacked).argmax(dim=1) != answers
print(f"answers that changed: {int(changed.sum())} of {len(changed)}")

# %%
# ViyogResidue reads one noise floor for an image. Most of an attacked image is clean here, so that
# it often looks like neither ID nor an attack and scores low.
residue = ViyogResidue(model).fit([id_images])
for kind, images in {"": clean, ", attacked": attacked}.items():
    for name, score in zip(asked, residue(images), strict=True):
        print(f"{name + kind:<22} ViyogResidue {float(score):>6.2f}")

# %%
# The residue part by part, as a share of the input's range like the budget of the attack: within
# the square about what PGD left there, beside it what the texture of a photograph shows.
maps = residue.residue_map(attacked)
cells = torch.nn.functional.adaptive_avg_pool2d(inside[:, 0], maps.shape[1:])
for name, own, square in zip(asked, maps, cells, strict=True):
    levels = 255 * torch.stack([own[square == 1].median(), own[square == 0].median()])
    print(f"{name:<10} inside {levels[0]:.1f}/255, beside it {levels[1]:.1f}/255")

# %%
# As figures: the photograph, and the map on top of it. What is rough reads as a residue, too.
answered = ["another answer" if each else "the same answer" for each in changed.tolist()]
told = [f"{name}, attacked: {answer}" for name, answer in zip(asked, answered, strict=True)]
plot_residue_map(clean, residue.residue_map(clean), options.out / "clean.png", verdict=asked)
plot_residue_map(attacked, maps, options.out / "attacked.png", verdict=told)
print(f"figures: {options.out / 'clean.png'}, {options.out / 'attacked.png'}")
