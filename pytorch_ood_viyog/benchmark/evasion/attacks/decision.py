"""
The check for masked gradients: random search that knows the system's answers only.
"""

import torch
from torch import Tensor

from ...attacks.craft import round_to_8_bit
from ...attacks.square import square_search
from .descent import Attack
from .target import Target

__all__ = ["BlackBox"]

# answers asked for, per gradient step of the other attacks: one costs about a third of a step
_QUERIES_PER_STEP = 10


class BlackBox(Attack):
    """The Square attack on margin and pressure: it is done where an image gets through."""

    needs_gradients = False

    def run(self, target: Target, steps: int, random_start: bool) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.run`; it always starts from random stripes."""
        through = torch.zeros(len(target.x), dtype=torch.bool, device=target.x.device)

        def loss(candidates: Tensor, index: Tensor) -> Tensor:
            attempt = target.attempt(round_to_8_bit(candidates), index)
            through[index] = attempt.through
            open_ = attempt.margin.clamp_min(0) + attempt.pressure.clamp_min(0)
            return torch.where(attempt.through, -torch.ones_like(open_), open_)

        found = square_search(target.x, target.epsilon, loss, _QUERIES_PER_STEP * steps)
        return round_to_8_bit(found), through
