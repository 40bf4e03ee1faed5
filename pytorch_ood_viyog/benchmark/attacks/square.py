"""
Square attack: random search that asks for nothing but the model's answers.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Square"]

# iterations, of 10,000, after which the share of changed pixels halves (the paper's schedule)
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True)
class Square:
    """
    L∞ attack without gradients: starts with vertical stripes of :math:`\\pm\\epsilon`, then tries
    squares of :math:`\\pm\\epsilon` at random places and keeps what lowers the margin between the
    label's logit and the largest other one. An image is done when the margin is negative.

    adversarial-robustness-toolbox has it too, but asks the model about five times as often.

    :param epsilon: change of a pixel, for images in [0, 1]
    :param queries: answers of the model asked for, per image
    :param share: share of the pixels that a square covers at first
    :see: Andriushchenko et al., *Square Attack: a query-efficient black-box adversarial attack via
        random search*, ECCV 2020
    """

    epsilon: float
    queries: int = 1000
    share: float = 0.05

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, C, H, W) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape
        """
        stripes = self._signs((len(x), x.shape[1], 1, x.shape[3])).to(x)
        attacked = (x + stripes).clamp(0, 1)
        margins = _margins(model, attacked, y)
        for query in range(1, self.queries):
            open_ = (margins >= 0).nonzero().squeeze(1)
            if len(open_) == 0:
                break
            side = self._side(query, x.shape[2:])
            candidate = self._with_squares(x[open_], attacked[open_], side)
            found = _margins(model, candidate, y[open_])
            better = found < margins[open_]
            attacked[open_[better]] = candidate[better]
            margins[open_[better]] = found[better]
        return attacked

    def _signs(self, shape: tuple[int, ...]) -> Tensor:
        return (2.0 * torch.randint(2, shape) - 1) * self.epsilon

    def _side(self, query: int, size: tuple[int, ...]) -> int:
        done = query / self.queries * 10_000
        share = self.share / 2 ** sum(done > limit for limit in _HALVED_AFTER)
        return max(1, min(*size, round(math.sqrt(share * size[0] * size[1]))))

    def _with_squares(self, x: Tensor, attacked: Tensor, side: int) -> Tensor:
        candidate = attacked.clone()
        for clean, one in zip(x, candidate, strict=True):
            top, left = (int(torch.randint(size - side + 1, ())) for size in x.shape[2:])
            place = (slice(None), slice(top, top + side), slice(left, left + side))
            change = self._signs((x.shape[1], 1, 1)).to(x)
            one[place] = (clean[place] + change).clamp(0, 1)
        return candidate


def _margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """:return: logit of the label minus the largest other logit, shape (B,)"""
    logits = model(x).clone()
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -math.inf).amax(dim=1)
    margins: Tensor = own - others
    return margins
