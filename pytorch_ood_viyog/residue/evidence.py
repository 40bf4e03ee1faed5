"""
From features to evidence: log-likelihoods of the hypotheses, scores, noise floors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .hypotheses import log_likelihoods
from .reader import Reader

__all__ = [
    "Settings",
    "arsinh",
    "evidence",
    "floor_is_known",
    "hypotheses",
    "log_odds",
    "noise_floor",
    "reader_of",
    "score",
]

# median of the squares, on ID images, above which a residue of a few grey levels cannot be told
_LOUD = 0.4549 * (16 / 255) ** 2
# median of the square of a standard normal variable
_NORMAL_MEDIAN = 0.4549


@dataclass(frozen=True)
class Settings:
    """What of ViyogResidue's arguments the mathematics needs; see there."""

    eps: tuple[float, ...]
    input_range: float | tuple[float, ...] | None
    directions: int
    kappa: float
    shrinkage: float | None
    seed: int


def hypotheses(features: Tensor, state: dict[str, Tensor], settings: Settings) -> Tensor:
    """:return: log-likelihoods of ID, OOD and ADV, :math:`B \\times 3`, by features"""
    return log_likelihoods(
        features, state["means"], state["whitening"], len(settings.eps), settings.kappa
    )


def score(features: Tensor, state: dict[str, Tensor], settings: Settings) -> Tensor:
    """:return: evidence for ADV, standardised on ID, shape :math:`B`, by features"""
    return (evidence(hypotheses(features, state, settings)) - state["centre"]) * (
        1 / state["spread"]
    )


def noise_floor(features: Tensor, state: dict[str, Tensor]) -> Tensor:
    """
    :return: estimated strength of the perturbation, as fraction of the dynamic range, shape
        :math:`B`, by features; means little where :func:`floor_is_known` says no
    """
    usual, reader = state["means"][0].exp(), reader_of(state)
    kinds = (reader.local_medians, reader.window_medians)
    local, window = (_lower_median(features[:, kind].exp() - usual[kind]) for kind in kinds)
    # stems of few channels have no quiet direction at a position, only among neighbours
    excess = torch.where(_lower_median(usual[None, kinds[0]]) > _LOUD, window, local)
    return (excess.clamp_min(0) / _NORMAL_MEDIAN).sqrt()


def floor_is_known(state: dict[str, Tensor]) -> bool:
    """
    :return: whether ID images leave directions so quiet that a residue of a few grey levels shows
        in :func:`noise_floor`
    """
    usual, reader = state["means"][0].exp(), reader_of(state)
    kinds = (reader.local_medians, reader.window_medians)
    return any(bool(_lower_median(usual[None, kind]) <= _LOUD) for kind in kinds)


def _lower_median(values: Tensor) -> Tensor:
    """As torch.median has it, which exporters do not know."""
    return values.sort(dim=1).values[:, (values.shape[1] - 1) // 2]


def reader_of(state: dict[str, Tensor]) -> Reader:
    """:return: the directions in a fitted state"""
    return Reader(**{name: state[name] for name in Reader.__dataclass_fields__})


def evidence(likelihoods: Tensor) -> Tensor:
    """
    :return: log-odds of ADV, beyond one or two on a logarithmic scale: :math:`\\mathrm{arsinh}` of
        them
    """
    return arsinh(log_odds(likelihoods))


def log_odds(likelihoods: Tensor) -> Tensor:
    """:return: log-odds of ADV against ID or OOD, shape :math:`B`, by :func:`hypotheses`"""
    one, other, adversarial = likelihoods.unbind(dim=1)
    # torch.logaddexp by hand: exporters write it as exp, sum and log, which far from ID is log 0
    either = torch.maximum(one, other) + (-(one - other).abs()).exp().log1p()
    return adversarial - either


def arsinh(odds: Tensor) -> Tensor:
    """:return: :math:`\\mathrm{arsinh}`, spelled out: ONNX Runtime has none of float64"""
    size = odds.abs()
    return odds.sign() * (size + (odds.square() + 1).sqrt()).log()
