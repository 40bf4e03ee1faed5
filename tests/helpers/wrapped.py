"""The user's model in a wrapping: other outputs, other inputs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

__all__ = ["Normalised", "Packed"]


class Packed(nn.Module):
    """A model whose output is packed, as in a tuple or a dictionary."""

    def __init__(self, model: nn.Module, pack: Callable[[Tensor], Any]):
        super().__init__()
        self.model, self.pack = model, pack

    def forward(self, x: Tensor) -> Any:
        return self.pack(self.model(x))


class Normalised(nn.Module):
    """The model for images that come in [-2, 2]."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x / 4 + 0.5)
