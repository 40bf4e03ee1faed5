"""
All attacks on one system, batch by batch; what is finished is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from .attacks.decision import BlackBox
from .checks import Checks, checked
from .result import SystemResult
from .search import Effort, Found, smallest_budgets
from .store import Store
from .systems.system import System

__all__ = ["Plan", "attacked"]


@dataclass(frozen=True)
class Plan:
    """
    :param budgets: ascending
    :param effort: attacks
    :param batch_size: images that are attacked together
    :param checks: images for the sanity checks, 0 for none
    :param seed: seed of each batch
    :param cache: folder for what is finished
    :param how: all settings, as text
    """

    budgets: tuple[float, ...]
    effort: Effort
    batch_size: int
    checks: int
    seed: int
    cache: Path | None
    how: str


def attacked(
    name: str, system: System, x: Tensor, y: Tensor, plan: Plan, progress: bool
) -> SystemResult:
    """
    :param name: name of the system
    :param system: what is attacked
    :param x: clean images, which the classifier gets right
    :param y: labels
    :param plan: how it is attacked
    :param progress: show a progress bar
    :return: what got through
    """
    effort = _fitting(plan.effort, system)
    store = None if plan.cache is None else Store(plan.cache, name, system, x, y, plan.how)
    starts = range(0, len(x), plan.batch_size)
    bar = tqdm(total=len(starts) + (plan.checks > 0), desc=name, disable=not progress)

    def tell(what: str) -> None:
        bar.set_postfix_str(what)

    parts = []
    for number, start in enumerate(starts):
        part = slice(start, start + plan.batch_size)
        found = None if store is None else store.read(number, x[part])
        if found is None:
            torch.manual_seed(plan.seed + number)
            found = smallest_budgets(system, x[part], y[part], plan.budgets, effort, tell)
            if store is not None:
                store.write(number, found)
        parts.append(found)
        bar.update()
    found = Found(*(torch.cat([getattr(p, n) for p in parts]) for n in ("level", "attack", "x")))
    checks = _checked(system, x, y, plan, effort, found, store, tell) if plan.checks else None
    bar.close()
    names = [*effort.attacks, ""]
    return SystemResult(
        level=found.level.cpu(),
        attack=[names[i] for i in found.attack.tolist()],
        pixels=(found.x * 255).round().to(torch.uint8).cpu(),
        differentiable=system.differentiable,
        draws=system.draws,
        checks=checks,
    )


def _fitting(effort: Effort, system: System) -> Effort:
    attacks = {name: each for name, each in effort.attacks.items() if each.suits(system)}
    return replace(effort, attacks=attacks, draws=system.draws)


def _checked(
    system: System,
    x: Tensor,
    y: Tensor,
    plan: Plan,
    effort: Effort,
    found: Found,
    store: Store | None,
    tell: Callable[[str], object],
) -> Checks | None:
    if all(isinstance(attack, BlackBox) for attack in effort.attacks.values()):
        return None
    checks = None if store is None else store.read_checks()
    if checks is None:
        few = slice(plan.checks)
        torch.manual_seed(plan.seed)
        checks = checked(system, x[few], y[few], plan.budgets, effort, found, tell)
        if store is not None:
            store.write_checks(checks)
    return checks
