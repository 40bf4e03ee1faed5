"""
What got through one system, tried on the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from .attacks.target import Target
from .result import SystemResult
from .systems.system import System

__all__ = ["transferred"]


def transferred(
    systems: Mapping[str, System],
    results: Mapping[str, SystemResult],
    x: Tensor,
    y: Tensor,
    budgets: Sequence[float],
) -> tuple[dict[str, SystemResult], dict[str, dict[str, float]]]:
    """
    :param systems: what was attacked
    :param results: what got through each by attacks of its own
    :param x: clean images
    :param y: labels
    :param budgets: ascending
    :return: results with what was made for another system counted too, where it needs a smaller
        budget; and system it was made for -> system it was tried on -> share that gets through
    """
    count = len(budgets)
    shares: dict[str, dict[str, float]] = {}
    better = dict(results)
    for source, made in results.items():
        index = (made.level < count).nonzero().squeeze(1)
        shares[source] = {}
        if len(index) == 0:
            continue
        candidates = made.pixels[index].to(x) / 255
        for name, system in systems.items():
            if name == source:
                continue
            place = index.to(x.device)
            target = Target(system, x, y, x.new_zeros(len(x), 1, 1, 1), system.draws)
            through = target.through(candidates, place).to(index.device)
            shares[source][name] = float(through.float().mean())
            better[name] = _with(better[name], made, source, index[through])
    return better, shares


def _with(result: SystemResult, made: SystemResult, source: str, index: Tensor) -> SystemResult:
    index = index[made.level[index] < result.level[index]]
    level, pixels, attack = result.level.clone(), result.pixels.clone(), list(result.attack)
    level[index], pixels[index] = made.level[index], made.pixels[index]
    for i in index.tolist():
        attack[i] = f"transfer from {source}"
    return replace(result, level=level, pixels=pixels, attack=attack)
