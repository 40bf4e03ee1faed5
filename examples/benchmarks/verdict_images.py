"""What the benchmark of verdicts judges: ID, OOD, attacked and benignly changed images, stored."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import foolbox
import torch
from images import fit_images, test_images
from models import Images
from own_attacks import SmoothPGD
from photographs import read_images, split_photographs
from prepare import CONFIGS, load_model, load_ood
from pretrained_scores import CARLINI_WAGNER, answers_of
from torch import Tensor, nn
from torch.nn import functional

from pytorch_ood_viyog.benchmark.attacks import FoolboxAttack, craft, named_attack
from pytorch_ood_viyog.benchmark.model_names import named_model
from pytorch_ood_viyog.images import BenignChange

PRETRAINED = "efficientnet-lite0"
#: benign changes that are met, none at exactly the strength that is simulated but JPEG and blur
CHANGES = (
    *(BenignChange("white noise", strength) for strength in (2, 4, 8)),
    BenignChange("Poisson-Gaussian noise", 5),
    BenignChange("JPEG", 90),
    BenignChange("JPEG", 75),
    BenignChange("sharpening", 100),
    BenignChange("blur", 1),
    BenignChange("contrast", 1.3),
    BenignChange("resampling", 0.6),
)
#: families that nothing like them is simulated of: they shall not be called ID
UNSEEN = ("square8", "sparse", "rotated", "patch")
# at 224 px: too slow, or nothing of them survives rounding
_TOO_SLOW = ("square8", "sparse", "ddn", "deepfool")
_SEED = 99
_BATCH = 50

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Material:
    """
    :param model: classifier of images in [0, 1]
    :param fit: images that detectors are fitted to
    :param labels: their labels
    :param calibration: ID images that are new to the model and to the detectors
    :param groups: images to judge: ``id``, ``ood/SET``, ``adv/ATTACK``, ``benign/CHANGE``
    """

    model: nn.Module
    fit: Tensor
    labels: Tensor
    calibration: Tensor
    groups: dict[str, Tensor]


def small_material(name: str, data: Path, cache: Path, n: int) -> Material:
    """
    :param name: a key of ``prepare.CONFIGS``
    :param data: data folder
    :param cache: cache folder
    :param n: images that are attacked, and so many of each OOD set
    :return: 1,500 images to fit, 600 to calibrate (fewer where there are fewer), and what is
        judged
    """
    model, images = load_model(name, data, cache), CONFIGS[name].images
    fit, test = fit_images(images, data)[:1500], test_images(images, data)
    ood = {each: x[:n] for each, x in load_ood(name, data).items() if "noise" not in each}
    calibration = min(600, (len(test) - n) * 3 // 5)
    clean = min(400, len(test) - n - calibration)
    x = test[slice(n, n + clean + calibration)].x
    groups = _groups(name, model, test[:n], x[:clean], ood, cache, named_attack("cw"))
    return Material(model, fit.x, fit.y, x[clean:], groups)


def pretrained_material(data: Path, cache: Path, n: int) -> Material:
    """
    :param data: data folder
    :param cache: cache folder
    :param n: images that are attacked
    :return: EfficientNet-Lite0: 150 photographs to fit, 100 to calibrate; its own answers to
        clean photographs count as true
    """
    model = named_model(PRETRAINED, None)
    file = data / "photos224.npz"
    parts = split_photographs(read_images(f"{file}:imagenet", 224), 150, n)
    ood = {each: read_images(f"{file}:{each}", 224)[:n] for each in ("mri", "aerial", "flowers")}
    attacked = Images((parts.attacked * 255).round().byte(), answers_of(model, parts.attacked))
    clean, calibration = parts.test[100:], parts.test[:100]
    groups = _groups(PRETRAINED, model, attacked, clean, ood, cache, CARLINI_WAGNER)
    labels = torch.zeros(len(parts.fit), dtype=torch.int64)
    return Material(model, parts.fit, labels, calibration, groups)


def _groups(
    name: str,
    model: nn.Module,
    attacked: Images,
    clean: Tensor,
    ood: dict[str, Tensor],
    cache: Path,
    strong_l2: Attack,
) -> dict[str, Tensor]:
    groups = {"id": clean} | {f"ood/{each}": x for each, x in ood.items()}
    for change in CHANGES:
        groups[f"benign/{change}"] = change(clean[: len(attacked)], seed=_SEED)
    for attack, function in _attacks(strong_l2).items():
        if name == PRETRAINED and attack in _TOO_SLOW:
            continue
        options = {"name": attack, "batch_size": _BATCH, "cache": cache / "verdicts" / name}
        found = craft(model, function, attacked.x, attacked.y, **options).x
        print(f"{name} {attack}: {len(found)}", flush=True)
        if len(found):
            groups[f"adv/{attack}"] = found
    return groups


def _attacks(strong_l2: Attack) -> dict[str, Attack]:
    named = ("fgsm8", "pgd8", "pgd4", "pgd2", "deepfool", "square8")
    own: dict[str, Attack] = {name: named_attack(name) for name in named}
    return own | {
        "cw": strong_l2,
        "ddn": FoolboxAttack(foolbox.attacks.DDNAttack(steps=40)),
        "l2pgd": FoolboxAttack(foolbox.attacks.L2PGD(steps=20), 1.0),
        "smooth": SmoothPGD(8 / 255, 1.0),
        "sparse": FoolboxAttack(foolbox.attacks.L0FMNAttack(steps=60)),
        "rotated": rotated,
        "patch": patch,
    }


def rotated(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """:return: the first of six rotations of up to 30 degrees that fools, shifted by 5 %"""
    best = x
    for degrees in (10, -10, 20, -20, 30, -30):
        angle = math.radians(degrees)
        rows = [
            [math.cos(angle), -math.sin(angle), 0.1],
            [math.sin(angle), math.cos(angle), 0.1],
        ]
        grid = functional.affine_grid(
            torch.tensor(rows).expand(len(x), 2, 3), list(x.shape), align_corners=False
        )
        turned = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        with torch.no_grad():
            unfooled = model(best).argmax(dim=1) == y
        best = torch.where(unfooled.view(-1, 1, 1, 1), turned, best)
    return best


def patch(model: nn.Module, x: Tensor, y: Tensor, steps: int = 30) -> Tensor:
    """:return: with a square of a sixteenth of the image that PGD is free in"""
    side = x.shape[-1] // 4
    mask = torch.zeros_like(x)
    mask[:, :, side // 2 : side // 2 + side, side // 2 : side // 2 + side] = 1
    filled = torch.rand_like(x) * mask
    for _ in range(steps):
        image = (x * (1 - mask) + filled * mask).detach().requires_grad_()
        loss = functional.cross_entropy(model(image), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, image)
        filled = (filled + 0.08 * gradient.sign()).clamp(0, 1) * mask
    return x * (1 - mask) + filled * mask
