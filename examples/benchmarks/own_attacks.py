"""Attacks that libraries lack: smooth PGD, a patch trained for each image, and other colours."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ColourShift", "SmoothPGD", "TrainedPatch", "blurred"]

_HUES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_SATURATIONS = (1.5, 0.6, 2.0, 0.3, 3.0, 0.0)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """
    :param x: images (B, C, H, W)
    :param sigma: standard deviation of the Gaussian in pixels
    :return: the images, blurred
    """
    reach = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    weights = (-offsets.square() / (2 * sigma**2)).exp()
    weights = (weights / weights.sum()).expand(x.shape[1], 1, -1)
    x = functional.pad(x, (reach,) * 4, mode="reflect")
    x = functional.conv2d(x, weights[:, :, None, :], groups=x.shape[1])
    return functional.conv2d(x, weights[:, :, :, None], groups=x.shape[1])


def loss_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """:return: gradient of the cross-entropy of each image, same shape"""
    x = x.detach().requires_grad_(True)
    loss = functional.cross_entropy(model(x), y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    return gradient


@dataclass(frozen=True)
class SmoothPGD:
    """
    PGD whose perturbation is blurred in every step, δ ← δ + α sign(G∗∇), and applied as G∗δ scaled
    to the budget: an attacker who avoids the finest detail. It knows nothing of any detector.

    :param eps: budget in the infinity norm
    :param sigma: standard deviation of the Gaussian G in pixels
    :param steps: number of steps
    """

    eps: float
    sigma: float
    steps: int = 20

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """:return: the attacked images"""
        delta = torch.empty_like(x).uniform_(-self.eps, self.eps)
        step = 2.5 * self.eps / self.steps
        for _ in range(self.steps):
            gradient = loss_gradient(model, self._applied(x, delta), y)
            moved = delta + step * blurred(gradient, self.sigma).sign()
            delta = moved.clamp(-self.eps, self.eps)
        return self._applied(x, delta).detach()

    def _applied(self, x: Tensor, delta: Tensor) -> Tensor:
        smooth = blurred(delta, self.sigma)
        size = smooth.abs().flatten(1).amax(dim=1).clamp_min(1e-9).view(-1, 1, 1, 1)
        return (x + smooth * (self.eps / size)).clamp(0, 1)


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
        """:return: images with a patch, same shape"""
        patched = torch.zeros_like(x[:, :1], dtype=torch.bool)
        side = max(1, round(self.side * min(x.shape[2:])))
        for one in patched:
            top, left = (int(torch.randint(size - side + 1, ())) for size in x.shape[2:])
            one[:, top : top + side, left : left + side] = True
        attacked = torch.where(patched, torch.full_like(x, 0.5), x)
        for _ in range(self.steps):
            moved = attacked + 0.05 * loss_gradient(model, attacked, y).sign()
            attacked = torch.where(patched, moved.clamp(0, 1), x)
        return attacked


@dataclass(frozen=True)
class ColourShift:
    """
    Turns the hue by up to a half circle or scales the saturation by 0 to 3, in growing steps,
    until the class changes (after Hosseini and Poovendran, *Semantic Adversarial Examples*,
    2018). No pixel is perturbed by itself. Needs torchvision.
    """

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """:return: images of other colours, unchanged where no step changes the class"""
        from torchvision.transforms.functional import adjust_hue, adjust_saturation

        hues = [(adjust_hue, sign * hue) for hue in _HUES for sign in (1, -1)]
        changes = [*hues, *((adjust_saturation, factor) for factor in _SATURATIONS)]
        shifted = x.clone()
        for change, amount in changes:
            open_ = (model(shifted).argmax(dim=1) == y).nonzero().squeeze(1)
            if len(open_) == 0:
                break
            shifted[open_] = change(x[open_], amount)
        fooled = model(shifted).argmax(dim=1) != y
        return torch.where(fooled[:, None, None, None], shifted, x)
