"""PGD whose perturbation is smooth: an attacker who avoids the finest detail."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


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


class SmoothPGD:
    """
    PGD whose perturbation is blurred in every step, δ ← δ + α sign(G∗∇), and applied as G∗δ scaled
    to the budget. It knows nothing of any detector.
    """

    def __init__(self, eps: float, sigma: float, steps: int = 20):
        """
        :param eps: budget in the infinity norm
        :param sigma: standard deviation of the Gaussian G in pixels
        :param steps: number of steps
        """
        self.eps = eps
        self.sigma = sigma
        self.steps = steps

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """:return: the attacked images"""
        delta = torch.empty_like(x).uniform_(-self.eps, self.eps)
        step = 2.5 * self.eps / self.steps
        for _ in range(self.steps):
            delta = delta.detach().requires_grad_(True)
            loss = functional.cross_entropy(model(self._applied(x, delta)), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, delta)
            moved = delta.detach() + step * blurred(gradient, self.sigma).sign()
            delta = moved.clamp(-self.eps, self.eps)
        return self._applied(x, delta).detach()

    def _applied(self, x: Tensor, delta: Tensor) -> Tensor:
        smooth = blurred(delta, self.sigma)
        size = smooth.abs().flatten(1).amax(dim=1).clamp_min(1e-9).view(-1, 1, 1, 1)
        return (x + smooth * (self.eps / size)).clamp(0, 1)

    def __repr__(self) -> str:
        return f"SmoothPGD(eps={self.eps:.6f}, sigma={self.sigma}, steps={self.steps})"
