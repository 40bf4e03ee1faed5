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
    "hypotheses",
    "log_odds",
    "noise_floor",
    "reader_of",
    "score",
]

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
    """
    :param features: :math:`B \\times F`
    :param state: fitted state
    :param settings: the detector's settings
    :return: log-likelihoods of ID, OOD and ADV, :math:`B \\times 3`
    """
    return log_likelihoods(
        features, state["means"], state["whitening"], len(settings.eps), settings.kappa
    )


def score(features: Tensor, state: dict[str, Tensor], settings: Settings) -> Tensor:
    """
    :param features: :math:`B \\times F`
    :param state: fitted state
    :param settings: the detector's settings
    :return: evidence for ADV, standardised on ID, shape :math:`B`
    """
    return (evidence(hypotheses(features, state, settings)) - state["centre"]) / state["spread"]


def noise_floor(features: Tensor, state: dict[str, Tensor]) -> Tensor:
    """
    :param features: :math:`B \\times F`
    :param state: fitted state
    :return: estimated strength of the perturbation, as fraction of the dynamic range, shape
        :math:`B`
    """
    medians = reader_of(state).local_medians
    excess = features[:, medians].exp() - state["means"][0, medians].exp()
    # the lower median, as torch.median has it, which exporters do not know
    median = excess.sort(dim=1).values[:, (excess.shape[1] - 1) // 2]
    return (median.clamp_min(0) / _NORMAL_MEDIAN).sqrt()


def reader_of(state: dict[str, Tensor]) -> Reader:
    """
    :param state: fitted state
    :return: the directions in it
    """
    return Reader(**{name: state[name] for name in Reader.__dataclass_fields__})


def evidence(likelihoods: Tensor) -> Tensor:
    """
    :param likelihoods: log-likelihoods of ID, OOD and ADV, :math:`B \\times 3`
    :return: log-odds of ADV against ID or OOD, beyond one or two on a logarithmic scale:
        :math:`\\mathrm{arsinh}` of them, shape :math:`B`
    """
    return arsinh(log_odds(likelihoods))


def log_odds(likelihoods: Tensor) -> Tensor:
    """
    :param likelihoods: log-likelihoods of ID, OOD and ADV, :math:`B \\times 3`
    :return: log-odds of ADV against ID or OOD, shape :math:`B`
    """
    one, other = likelihoods[:, 0], likelihoods[:, 1]
    # torch.logaddexp by hand: exporters write it as exp, sum and log, which far from ID is log 0
    either = torch.maximum(one, other) + (-(one - other).abs()).exp().log1p()
    return likelihoods[:, 2] - either


def arsinh(odds: Tensor) -> Tensor:
    """
    :param odds: log-odds
    :return: :math:`\\mathrm{arsinh}` of them, spelled out: ONNX Runtime has none of float64
    """
    size = odds.abs()
    return odds.sign() * (size + (odds.square() + 1).sqrt()).log()
