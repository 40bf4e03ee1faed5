"""
Square attack: random search that asks for nothing but the model's answers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Square", "margins", "square_search"]

#: losses of candidates (B, C, H, W) for the images at positions (B,)
Loss = Callable[[Tensor, Tensor], Tensor]

# iterations, of 10,000, after which the share of changed pixels halves (the paper's schedule)
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True)
class Square:
    """
    L∞ attack without gradients: starts with vertical stripes of :math:`\\pm\\epsilon`, then tries
    squares of :math:`\\pm\\epsilon` at random places and keeps what lowers the margin between the
    label's logit and the largest other one. An image is done when the margin is negative.

    adversarial-robustness-toolbox has it too, but takes longer for each query.

    :param epsilon: change of a pixel, for images in [0, 1]
    :param queries: answers of the model asked for, per image
    :param share: share of the pixels that a square covers at first
    :see: Andriushchenko et al., *Square Attack: a query-efficient black-box adversarial attack via
        random search*, ECCV 2020
    """

    epsilon: float
    queries: int = 1000
    share: float = 0.05

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """:return: perturbed images (B, C, H, W), in [0, 1] as those given"""

        def loss(candidate: Tensor, index: Tensor) -> Tensor:
            return margins(model(candidate), y[index])

        epsilon = torch.full((len(x), 1, 1, 1), self.epsilon).to(x)
        return square_search(x, epsilon, loss, self.queries, self.share)


@torch.no_grad()
def square_search(
    x: Tensor, epsilon: Tensor, loss: Loss, queries: int, share: float = 0.05
) -> Tensor:
    """
    The search of the Square attack for any loss of candidates for some of the images, whose
    positions come with them; an image is done when it is negative. Each has an epsilon of its own,
    shape (B, 1, 1, 1).
    """
    every = torch.arange(len(x), device=x.device)
    stripes = _signs((len(x), x.shape[1], 1, x.shape[3])).to(x) * epsilon
    attacked = (x + stripes).clamp(0, 1)
    losses = loss(attacked, every)
    for query in range(1, queries):
        open_ = (losses >= 0).nonzero().squeeze(1)
        if len(open_) == 0:
            break
        side = _side(query / queries, share, x.shape[2:])
        candidate = _with_squares(x[open_], attacked[open_], epsilon[open_], side)
        found = loss(candidate, open_)
        better = found < losses[open_]
        attacked[open_[better]] = candidate[better]
        losses[open_[better]] = found[better]
    return attacked


def _signs(shape: tuple[int, ...]) -> Tensor:
    return 2.0 * torch.randint(2, shape) - 1


def _side(done: float, share: float, size: torch.Size) -> int:
    share = share / 2 ** sum(done * 10_000 > limit for limit in _HALVED_AFTER)
    height, width = size
    return max(1, min(height, width, round(math.sqrt(share * height * width))))


def _with_squares(x: Tensor, attacked: Tensor, epsilon: Tensor, side: int) -> Tensor:
    candidate = attacked.clone()
    for clean, one, strength in zip(x, candidate, epsilon, strict=True):
        top, left = (int(torch.randint(size - side + 1, ())) for size in x.shape[2:])
        place = (slice(None), slice(top, top + side), slice(left, left + side))
        change = _signs((x.shape[1], 1, 1)).to(x) * strength
        one[place] = (clean[place] + change).clamp(0, 1)
    return candidate


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """:return: logit of the label minus the largest other logit, shape (B,)"""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -math.inf).amax(dim=1)
