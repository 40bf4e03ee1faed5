"""
All attacks on one system, batch by batch; what is finished is kept on disk, so that an
interrupted run goes on where it stopped.
"""

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..attacks.cache import BatchCache, digest
from .checks import Checks, checked
from .result import SystemResult
from .search import Effort, Found, smallest_budgets
from .system import System
from .target import Target

__all__ = ["Plan", "attacked", "transferred"]


@dataclass(frozen=True)
class Plan:
    """
    :param budgets: ascending
    :param effort: attacks
    :param batch_size: images that are attacked together
    :param checks: images for the sanity checks, 0 for none
    :param seed: seed of each batch
    :param cache: folder for what is finished
    """

    budgets: tuple[float, ...]
    effort: Effort
    batch_size: int
    checks: int
    seed: int
    cache: Path | None


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
    suited = {name: each for name, each in plan.effort.attacks.items() if each.suits(system)}
    effort = plan.effort._replace(attacks=suited)
    store = None if plan.cache is None else _Store(plan.cache, name, system, x, y, plan)
    starts = range(0, len(x), plan.batch_size)
    parts: list[Found] = []
    with tqdm(total=len(starts) + (plan.checks > 0), desc=name, disable=not progress) as bar:
        for number, start in enumerate(starts):
            part = slice(start, start + plan.batch_size)
            found = store and store.read(number, x[part])
            if not found:
                torch.manual_seed(plan.seed + number)
                found = smallest_budgets(
                    system, x[part], y[part], plan.budgets, effort, bar.set_postfix_str
                )
                if store:
                    store.write(number, found)
            parts.append(found)
            bar.update()
        every = Found(*map(torch.cat, zip(*parts, strict=True)))
        checks = store and plan.checks and store.read_checks()
        if plan.checks and not checks:
            few = slice(plan.checks)
            torch.manual_seed(plan.seed)
            checks = checked(
                system, x[few], y[few], plan.budgets, effort, every, bar.set_postfix_str
            )
            if store and checks:
                store.write_checks(checks)
    names = [*effort.attacks, ""]
    return SystemResult(
        level=every.level.cpu(),
        attack=[names[i] for i in every.attack.tolist()],
        pixels=(every.x * 255).round().to(torch.uint8).cpu(),
        differentiable=system.differentiable,
        draws=system.draws,
        checks=checks or None,
    )


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
    shares: dict[str, dict[str, float]] = {source: {} for source in results}
    better = dict(results)
    for source, made in results.items():
        index = (made.level < len(budgets)).nonzero().squeeze(1)
        place, candidates = index.to(x.device), made.pixels[index].to(x) / 255
        for name, system in systems.items():
            if name == source or len(index) == 0:
                continue
            target = Target(system, x[place], y[place], x.new_zeros(len(place), 1, 1, 1))
            through = target.through(candidates).cpu()
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


class _Store:
    """Files of one system: a batch of images each, and its checks."""

    def __init__(self, folder: Path, name: str, system: System, x: Tensor, y: Tensor, plan: Plan):
        """The classifier's weights and the system's pressures on ``x`` count, and the plan."""
        with torch.no_grad():
            pressures = torch.cat([system.watch(p).pressure for p in torch.split(x[:64], 32)])
        # digits that do not depend on the number of threads
        seen = " ".join(f"{value:.2f}" for value in pressures.tolist())
        effort = plan.effort
        how = f"{plan.budgets} {list(effort.attacks)} {effort.steps} {effort.restarts} "
        how += f"{system.draws} {plan.batch_size} {plan.checks} {plan.seed}"
        key = digest(system.model, x, y, f"{type(system).__name__} {how} {seen}")
        self._batches = BatchCache(folder / f"evasion-{key}")
        self._checks = self._batches.folder / "checks.json"
        (self._batches.folder / "system.txt").write_text(f"{name}\n{how}\n", encoding="utf-8")

    def read(self, number: int, x: Tensor) -> Found | None:
        batch = self._batches.read(number, x.shape)
        if batch is None:
            return None
        pixels, level, attack = (part.to(x.device) for part in batch)
        return Found(level, attack, pixels.to(x) / 255)

    def write(self, number: int, found: Found) -> None:
        pixels = (found.x * 255).round().to(torch.uint8)
        self._batches.write(number, (pixels.cpu(), found.level.cpu(), found.attack.cpu()))

    def read_checks(self) -> Checks | None:
        if not self._checks.exists():
            return None
        try:
            values = json.loads(self._checks.read_text(encoding="utf-8"))
            steps = {int(steps): share for steps, share in values.pop("by_steps").items()}
            return Checks(by_steps=steps, **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            warnings.warn(f"{self._checks} is damaged and computed again: {error}", stacklevel=3)
            return None

    def write_checks(self, checks: Checks) -> None:
        partial = self._checks.with_suffix(f".partial-{os.getpid()}")
        partial.write_text(json.dumps(asdict(checks)), encoding="utf-8")
        os.replace(partial, self._checks)
