"""
Classes for targeted attacks to arrive at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["TARGETS", "Targets", "as_targets"]

#: ``(model, x, y) -> targets``, other classes than the labels, shape (B,)
Targets = Callable[[nn.Module, Tensor, Tensor], Tensor]
#: the targets that have a name
TARGETS = ("random", "least likely", "second")


@dataclass(frozen=True)
class _Named:
    name: str

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits: Tensor = model(x)
        if self.name == "random":
            others = torch.randint(1, logits.shape[1], y.shape).to(y)  # CPU: alike on all devices
            return (y + others) % logits.shape[1]
        away = torch.zeros_like(logits).scatter(1, y[:, None], torch.inf)  # never the label
        return (logits - away).argmax(1) if self.name == "second" else (logits + away).argmin(1)


@dataclass(frozen=True)
class _One:
    number: int

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        following = (self.number + 1) % model(x[:1]).shape[1]
        return torch.where(y == self.number, following, self.number)


def as_targets(targets: Any) -> Targets | None:
    """
    :param targets: ``"random"``, ``"least likely"``, ``"second"`` (the likeliest class beside
        the label), the number of a class (images of it get the next one), a callable
        ``(model, x, y) -> targets``, or ``None``
    :return: the callable
    :raises ValueError: if it is none of these
    """
    if targets is None or callable(targets):
        return targets  # type: ignore[no-any-return]
    if isinstance(targets, int) and not isinstance(targets, bool):
        return _One(targets)
    if targets in TARGETS:
        return _Named(targets)
    raise ValueError(
        f"targets must be one of {', '.join(TARGETS)}, the number of a class or a callable "
        f"(model, x, y) -> targets, got {targets!r}."
    )
