"""
Gradient attacks that foolbox lacks: perturbations that are blurred, confined to a part of the
image, or aim at another class.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ConfinedPGD", "SmoothPGD", "TargetedPGD", "TrainedPatch", "gaussian_blur"]


@dataclass(frozen=True)
class SmoothPGD:
    """
    PGD (Madry et al., 2018) whose perturbation is blurred in every step:
    :math:`\\delta \\leftarrow \\delta + \\alpha\\, \\mathrm{sign}(G * \\nabla)`, applied as
    :math:`G * \\delta` scaled to the budget. Little of it is left at the spatial frequencies in
    which natural images are quiet.

    :param epsilon: largest change of a pixel, for images in [0, 1]
    :param sigma: standard deviation of the Gaussian :math:`G`, in pixels
    :param steps: gradient steps
    """

    epsilon: float
    sigma: float
    steps: int = 20

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, C, H, W) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape
        """
        delta = torch.zeros_like(x)
        for _ in range(self.steps):
            gradient = loss_gradient(model, self._applied(x, delta), y)
            delta = delta + 2.5 / self.steps * gaussian_blur(gradient, self.sigma).sign()
        return self._applied(x, delta)

    def _applied(self, x: Tensor, delta: Tensor) -> Tensor:
        smooth = gaussian_blur(delta, self.sigma)
        largest = smooth.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
        return (x + self.epsilon * smooth / largest).clamp(0, 1)


@dataclass(frozen=True)
class TargetedPGD:
    """
    PGD towards a class drawn at random for each image, another one than its label.

    :param epsilon: largest change of a pixel, for images in [0, 1]
    :param steps: gradient steps
    """

    epsilon: float
    steps: int = 20

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, ...) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape; :func:`craft` counts any change of the class
        """
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        others = torch.randint(1, classes, y.shape).to(y.device)  # CPU: alike on all devices
        target = (y + others) % classes
        step = 2.5 / self.steps * self.epsilon
        start = (torch.rand(x.shape).to(x) * 2 - 1) * self.epsilon
        attacked = (x + start).clamp(0, 1)
        for _ in range(self.steps):
            moved = attacked - step * loss_gradient(model, attacked, target).sign()
            attacked = (x + (moved - x).clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        return attacked


@dataclass(frozen=True)
class ConfinedPGD:
    """
    PGD that changes one square of the image, at a random place, and nothing beside it.

    :param epsilon: largest change of a pixel, for images in [0, 1]
    :param side: side of the square, as a share of the image's shorter side: 0.5 for a quarter of
        a square image
    :param steps: gradient steps
    """

    epsilon: float
    side: float = 0.5
    steps: int = 20

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, C, H, W) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape
        """
        inside = _square_mask(x, max(1, round(self.side * min(x.shape[2:]))))
        step = 2.5 / self.steps * self.epsilon
        start = (torch.rand(x.shape).to(x) * 2 - 1) * self.epsilon
        attacked = (x + start * inside).clamp(0, 1)
        for _ in range(self.steps):
            moved = attacked + step * loss_gradient(model, attacked, y).sign() * inside
            attacked = (x + (moved - x).clamp(-self.epsilon, self.epsilon)).clamp(0, 1)
        return attacked


@dataclass(frozen=True)
class TrainedPatch:
    """
    A square trained for each image, at a random place, with no bound on its pixels (after Brown
    et al., *Adversarial Patch*, 2017).

    :param side: side of the square, as a share of the image's shorter side
    :param steps: gradient steps of 0.05 each
    """

    side: float = 0.2
    steps: int = 40

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, C, H, W) in [0, 1]
        :param y: labels (B,)
        :return: images with a patch, same shape
        """
        patched = _square_mask(x, max(1, round(self.side * min(x.shape[2:]))))
        attacked = torch.where(patched, torch.full_like(x, 0.5), x)
        for _ in range(self.steps):
            moved = attacked + 0.05 * loss_gradient(model, attacked, y).sign()
            attacked = torch.where(patched, moved.clamp(0, 1), x)
        return attacked


def _square_mask(x: Tensor, side: int) -> Tensor:
    """:return: (B, 1, H, W), true in one square of each image"""
    mask = torch.zeros_like(x[:, :1], dtype=torch.bool)
    for one in mask:
        top, left = (int(torch.randint(size - side + 1, ())) for size in x.shape[2:])
        one[:, top : top + side, left : left + side] = True
    return mask


def loss_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """
    :param model: classifier
    :param x: images (B, ...)
    :param y: labels (B,)
    :return: gradient of the cross-entropy of each image, same shape
    """
    x = x.detach().requires_grad_(True)
    loss = functional.cross_entropy(model(x), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    return gradient


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """
    :param x: images (B, C, H, W)
    :param sigma: standard deviation in pixels
    :return: blurred images, same shape; zero beyond the border
    """
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-offsets.square() / (2 * sigma**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, 1, -1)
    rows = functional.conv2d(x, weights, padding=(0, radius), groups=x.shape[1])
    columns = weights.transpose(2, 3)
    return functional.conv2d(rows, columns, padding=(radius, 0), groups=x.shape[1])
