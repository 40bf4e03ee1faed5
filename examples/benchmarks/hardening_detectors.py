"""Detectors of ideas that were tried against an attacker who knows them; see ``hardening.py``.

All are fitted on ID images alone, are differentiable and score ADV higher. They are not part of
the package: what they cost an attacker decides what would be.
"""

from collections.abc import Iterable
from typing import Any

import torch
from hardening_views import View, as_strong_as_survived
from pytorch_ood.api import Detector, RequiresFittingException
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import Self

from pytorch_ood_viyog.detectors import ResidueAlarm
from pytorch_ood_viyog.looks.answers import log_odds, lost_odds
from pytorch_ood_viyog.looks.second_pass import SecondPass
from pytorch_ood_viyog.triage import Fused

__all__ = ["DrawnView", "Floors", "Loudest", "LowOdds", "MovedFeatures", "TooQuiet", "Views"]

# ID images that views are chosen and standardised by
_SAMPLE = 256
_FLIPS = 0.02


class Loudest(Fused):
    """The largest surprise instead of the sum: an alarm where any detector is surprised."""

    def predict(self, x: Tensor) -> Tensor:
        """:return: scores of shape B, smoothed so that the attacker sees who comes next"""
        return torch.stack(list(self.surprises(x).values())).logsumexp(dim=0)


class TooQuiet(ResidueAlarm):
    """The other tail: less noise floor than ID images have."""

    def _view(self, features: Tensor, state: dict[str, Tensor]) -> Tensor:
        return -super()._view(features, state)


class Views(SecondPass):
    """How much of the odds of its answer a model loses in other views, the mean over views."""

    requires_fit = True

    def __init__(self, model: nn.Module, kinds: dict[str, list[View]]):
        """
        :param model: classifier of images in [0, 1]
        :param kinds: views by kind, from strong to weak
        """
        super().__init__(model)
        self.kinds = kinds
        self.views: list[View] | None = None

    @property
    def _is_fitted(self) -> bool:
        return self.views is not None

    @torch.no_grad()
    def fit(self, data_loader: Iterable[Any], **_: Any) -> Self:
        """
        :param data_loader: batches of ID images and labels
        :return: the detector, fitted
        """
        x = torch.cat([x for x, _ in data_loader])[-_SAMPLE:]
        answers = self._require_answers().logits
        self.views = as_strong_as_survived(self.kinds, answers, x, _FLIPS)
        readings = self._read(self.views, x, answers(x))
        self.mean, self.spread = readings.mean(dim=0), readings.std(dim=0).clamp_min(1e-12)
        return self

    def _read(self, views: list[View], x: Tensor, first: Tensor) -> Tensor:
        """A reading of each view, (N, views)."""
        seconds = self._asked(torch.cat([view(x) for view in views]))
        return torch.stack([lost_odds(first, s) for s in seconds.split(len(x))], dim=1)

    def _asked(self, x: Tensor) -> Tensor:
        return self._require_answers().logits(x)

    def _score(self, x: Tensor, first: Tensor) -> Tensor:
        if self.views is None:
            raise RequiresFittingException
        return ((self._read(self.views, x, first) - self.mean) / self.spread).mean(dim=1)


class LowOdds(Views):
    """How improbable its answer is to a model, the mean over the views and the image itself."""

    def _read(self, views: list[View], x: Tensor, first: Tensor) -> Tensor:
        answer, seconds = first.argmax(dim=1), self._asked(torch.cat([view(x) for view in views]))
        odds = [log_odds(logits, answer) for logits in (first, *seconds.split(len(x)))]
        return -functional.logsigmoid(torch.stack(odds, dim=1))

    def _score(self, x: Tensor, first: Tensor) -> Tensor:
        if self.views is None:
            raise RequiresFittingException
        return self._read(self.views, x, first).mean(dim=1)


class DrawnView(Views):
    """The same in one view, drawn anew in each call from all that ID answers survive."""

    def __init__(self, model: nn.Module, kinds: dict[str, list[View]], seed: int = 0):
        """
        :param model: as for :class:`Views`
        :param kinds: as for that
        :param seed: seed of the draws
        """
        every = {f"{kind} {i}": [v] for kind, views in kinds.items() for i, v in enumerate(views)}
        super().__init__(model, every)
        self.generator = torch.Generator().manual_seed(seed)

    def _score(self, x: Tensor, first: Tensor) -> Tensor:
        if self.views is None:
            raise RequiresFittingException
        drawn = int(torch.randint(len(self.views), (), generator=self.generator))
        lost = self._read([self.views[drawn]], x, first)[:, 0]
        return (lost - self.mean[drawn]) / self.spread[drawn]


class MovedFeatures(Views):
    """How far views move the penultimate features, in standard deviations on ID."""

    def _read(self, views: list[View], x: Tensor, first: Tensor) -> Tensor:
        encoder = nn.Sequential(*list(self.model)[:-1])
        features = encoder(torch.cat([x, *(view(x) for view in views)])).split(len(x))
        moves = torch.stack([each - features[0] for each in features[1:]], dim=1)
        return moves.double().square().mean(dim=2).clamp_min(1e-12).log()


class Floors(Detector):
    """
    How unusual the differences are between the noise floors of colour channels and of quarters of
    an image: Mahalanobis distance on ID of logarithms of the mean absolute Laplacian.
    """

    requires_fit = True

    def __init__(self, model: nn.Module):
        """:param model: classifier, which is not asked"""
        self.model = model
        self.mean: Tensor | None = None

    @property
    def _is_fitted(self) -> bool:
        return self.mean is not None

    @torch.no_grad()
    def fit(self, data_loader: Iterable[Any], **_: Any) -> Self:
        """
        :param data_loader: batches of ID images and labels
        :return: the detector, fitted
        """
        ratios = torch.cat([self._ratios(x) for x, _ in data_loader])
        self.mean = ratios.mean(dim=0)
        # ratios of n floors have n - 1 dimensions
        self.inverse = torch.linalg.pinv(torch.cov(ratios.T), rtol=1e-6, hermitian=True)
        return self

    def predict(self, x: Tensor) -> Tensor:
        """:return: squared distances of shape B"""
        if self.mean is None:
            raise RequiresFittingException
        away = self._ratios(x) - self.mean
        return ((away @ self.inverse) * away).sum(dim=1)

    @staticmethod
    def _ratios(x: Tensor) -> Tensor:
        kernel = x.new_tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
        detail = functional.conv2d(x.flatten(0, 1)[:, None], kernel[None, None]).abs()
        floors = functional.adaptive_avg_pool2d(detail, 2).view(len(x), -1).double()
        logarithms = (floors + 1 / 255).log()
        return logarithms - logarithms.mean(dim=1, keepdim=True)
