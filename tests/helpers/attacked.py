"""A classifier that attacks fool, its ID data in [0, 1], and attacked images."""

import torch
from contract_models import Classifier, class_images, classifier
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

__all__ = ["attacked", "id_batches", "id_images", "trained"]


def id_images(seed: int = 0, copies: int = 4) -> tuple[Tensor, Tensor]:
    """ID images in [0, 1] with labels, with other noise for each seed."""
    images, labels = class_images()
    generator = torch.Generator().manual_seed(seed)
    many = images.repeat(copies, 1, 1, 1)
    many = many + 0.1 * torch.randn(many.shape, generator=generator)
    return (0.25 + many / 2).clamp(0, 1), labels.repeat(copies)


def id_batches(seed: int = 0, copies: int = 4) -> list[tuple[Tensor, Tensor]]:
    images, labels = id_images(seed, copies)
    return list(zip(images.split(48), labels.split(48), strict=True))


def trained() -> Classifier:
    """The classifier of the contract, with a head for these images."""
    return classifier(*id_images())


def attacked(model: nn.Module, x: Tensor, eps: float = 24 / 255, steps: int = 10) -> Tensor:
    """PGD against the model's own answers."""
    with torch.no_grad():
        answers = model(x).argmax(dim=1)
    found = x.clone()
    for _ in range(steps):
        found = found.detach().requires_grad_(True)
        loss = cross_entropy(model(found), answers)
        (gradient,) = torch.autograd.grad(loss, found)
        found = found.detach() + eps / 4 * gradient.sign()
        found = (x + (found - x).clamp(-eps, eps)).clamp(0, 1)
    return found.detach()
