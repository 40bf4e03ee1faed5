"""
evasion: what a detector costs an attacker who knows everything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from tqdm import tqdm

from ...layer.checks import check_count, check_number
from ...layer.manners import as_found_with_gradients, device_of, unwrap
from ..attacks.cache import digest, keep, read_kept
from ..attacks.images import round_to_8_bit
from .attacks import ATTACKS
from .report import Evasion, SystemResult
from .search import Checks, Found, Plan, checked, smallest_budgets
from .system import ALONE, Given, System, model_of, named_systems, systems_of

__all__ = ["BUDGETS", "check_options", "evasion"]

#: 1, 2, 3, 4, 6, 8 and 16 steps of 8 bit
BUDGETS = tuple(step / 255 for step in (1, 2, 3, 4, 6, 8, 16))


def evasion(
    system: Given,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    model: Module | None = None,
    calibration: Tensor | Iterable[Any] | None = None,
    alarms: float = 0.05,
    budgets: Sequence[float] = BUDGETS,
    attacks: Sequence[str] = tuple(ATTACKS),
    steps: int = 40,
    restarts: int = 1,
    checks: int = 20,
    batch_size: int = 50,
    cache: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evasion:
    """
    The price of evasion. An attack is *accepted* if the classifier's answer is wrong and the
    system lets it pass: a detector's score is not above its threshold, a Triage's verdict is ID or
    NOISY. With :math:`\\epsilon_{50}` the smallest :math:`L_\\infty` budget at which half of the
    attacked images are accepted, the price of a system is its :math:`\\epsilon_{50}` over the one
    of the classifier alone: 1 means that it costs the attacker nothing.

    An image counts at a budget if *any* attack gets it through, see
    :data:`~pytorch_ood_viyog.benchmark.evasion.attacks.ATTACKS`. A system whose scores have no
    gradient in respect to the image is attacked by what does not know it and by a search without
    gradients, and the table says so. One with random parts is asked eight times about an image:
    gradients are means, and half of the draws must accept.

    The classifier runs in evaluation mode; its mode, weights, hooks and the random state are
    afterwards as they were.

    .. rubric:: Examples

    .. code-block:: python

        found = evasion(
            {"residue": residue, "triage": triage}, images, labels, calibration=id_images
        )
        print(found)
        print(found.price("triage"))
        found.save("results/evasion")
        found.plot("results/evasion")

    :param system: fitted detector of pytorch-ood, or fitted
        :class:`~pytorch_ood_viyog.triage.triage.Triage`, or several by name
    :param images: (N, C, H, W) in [0, 1], to attack; normalisation is part of the model. They are
        rounded to 8 bit, as what comes of them is.
    :param labels: (N,); default is the classifier's own answers. Images that it gets wrong before
        any attack are left out and counted.
    :param model: classifier; default is the one that the system has
    :param calibration: ID images, as tensor or loader, that thresholds of detectors are set on;
        neither model nor detectors should know them. A Triage has thresholds of its own.
    :param alarms: share of ID images that a detector may raise an alarm for
    :param budgets: largest changes of a pixel, ascending, at least 1/255 each
    :param attacks: names of attacks; plain PGD is always among them
    :param steps: gradient steps of each attack
    :param restarts: runs of each attack; the first starts from the clean image
    :param checks: images for the sanity checks, 0 for none
    :param batch_size: images that are attacked together
    :param cache: folder for finished batches; an interrupted run goes on from there
    :param seed: seed of attacks and resamples
    :param progress: show progress bars
    :return: accepted shares, prices, and everything behind them
    :raises TypeError: if an argument has the wrong type
    :raises ValueError: if one is out of range or does not fit the others, or no image is left
    """
    named = named_systems(system)
    classifier = model_of(named, model)
    x, known = _checked(images, labels)
    counts = {"steps": steps, "restarts": restarts, "checks": checks, "batch_size": batch_size}
    limits, names = check_options(budgets, attacks, alarms, **counts)
    chosen, folder = {n: ATTACKS[n] for n in names}, None if cache is None else Path(cache)
    plan = Plan(limits, chosen, steps, restarts, checks, batch_size, seed, folder, progress)
    x = x.to(device_of(classifier))
    with as_found_with_gradients(unwrap(classifier)):
        torch.manual_seed(seed)
        systems = systems_of(named, classifier, calibration, alarms, x)
        index, x, y = _answered_rightly(systems[ALONE], x, known, batch_size)
        results = {name: _attacked(name, each, x, y, plan) for name, each in systems.items()}
    return Evasion(
        budgets=limits,
        systems=results,
        index=index.cpu(),
        left_out=len(images) - len(index),
        settings=f"Thresholds of detectors at {alarms:.0%} alarms on ID images. {len(names)} "
        f"attacks ({', '.join(names)}), {steps} steps and {restarts} "
        f"run{'s' if restarts > 1 else ''} each.",
        seed=seed,
    )


def check_options(
    budgets: Sequence[float], attacks: Sequence[str], alarms: float, **counts: int
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """
    What can be told to be wrong before anything is fitted or read; as for :func:`evasion`, counts
    by name.

    :return: budgets, and attacks in the order in which they are tried, with ``"pgd"``
    """
    check_number("alarms", alarms, low=1e-6, high=0.5)
    for name, count in counts.items():
        check_count(name, count, low=0 if name == "checks" else 1)
    if isinstance(attacks, str):
        raise TypeError(f"attacks must be a sequence of names, got {attacks!r}.")
    if unknown := [name for name in attacks if name not in ATTACKS]:
        raise ValueError(f"attacks must be names among {list(ATTACKS)}, got {unknown}.")
    limits = tuple(check_number("budgets", budget, high=1.0) for budget in budgets)
    if not limits or list(limits) != sorted(set(limits)):
        raise ValueError(f"budgets must ascend, each larger than the one before, got {budgets}.")
    if limits[0] < (1 - 1e-6) / 255:
        raise ValueError(
            f"budgets must be at least 1/255, as changes are rounded to 8 bit, got {limits[0]:g}."
        )
    return limits, tuple(name for name in ATTACKS if name in ("pgd", *attacks))


def _attacked(name: str, system: System, x: Tensor, y: Tensor, plan: Plan) -> SystemResult:
    """All attacks on one system, batch by batch; what is finished is kept."""
    suited = {name: each for name, each in plan.attacks.items() if each.suits(system)}
    plan = replace(plan, attacks=suited)
    with torch.no_grad():
        clean = [system.watch(part) for part in torch.split(x, plan.batch_size)]
    pressures, alarms = map(torch.cat, zip(*clean, strict=True))
    folder = plan.cache and plan.cache / f"evasion-{_key(system, x, y, plan, pressures)}"
    parts, starts = [], range(0, len(x), plan.batch_size)
    with tqdm(total=len(starts) + (plan.checks > 0), desc=name, disable=not plan.progress) as bar:
        plan = replace(plan, tell=bar.set_postfix_str)
        for number, start in enumerate(starts):
            part = slice(start, start + plan.batch_size)
            file = folder and folder / f"{number:05d}.pt"
            found = read_kept(file, partial(_as_found, x[part]))
            if found is None:
                torch.manual_seed(plan.seed + number)
                found = smallest_budgets(system, x[part], y[part], plan)
                keep(file, (found.pixels(), found.level.cpu(), found.attack.cpu()))
            parts.append(found)
            bar.update()
        every = Found(*map(torch.cat, zip(*parts, strict=True)))
        file = folder and folder / "checks.pt"
        checks = read_kept(file, lambda kept: Checks(**kept)) if plan.checks else None
        if plan.checks and checks is None:
            torch.manual_seed(plan.seed)
            checks = checked(system, x[: plan.checks], y[: plan.checks], plan, every)
            if checks is not None:
                keep(file, asdict(checks))
    names = [*suited, ""]
    return SystemResult(
        level=every.level.cpu(),
        attack=[names[i] for i in every.attack.tolist()],
        pixels=every.pixels(),
        differentiable=system.differentiable,
        draws=system.draws,
        alarms=float(alarms.float().mean()),
        checks=checks,
    )


def _key(system: System, x: Tensor, y: Tensor, plan: Plan, pressures: Tensor) -> str:
    """The classifier's weights and the system's pressures on some images count, and the plan."""
    # digits that do not depend on the number of threads
    seen = " ".join(f"{value:.2f}" for value in pressures[:64].tolist())
    how = f"{plan.budgets} {list(plan.attacks)} {plan.steps} {plan.restarts} {system.draws} "
    how += f"{plan.batch_size} {plan.checks} {plan.seed}"
    return digest(system.model, x, y, f"{type(system).__name__} {how} {seen}")


def _as_found(clean: Tensor, kept: Any) -> Found:
    pixels, level, attack = (part.to(clean.device) for part in kept)
    if pixels.shape != clean.shape or not len(level) == len(attack) == len(clean):
        raise ValueError(f"expected shape {tuple(clean.shape)}, got {tuple(pixels.shape)}")
    return Found(level, attack, pixels.to(clean) / 255)


@torch.no_grad()
def _answered_rightly(
    alone: System, x: Tensor, labels: Tensor | None, batch_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    answers = torch.cat(
        [alone.classify(part).argmax(dim=1) for part in torch.split(x, batch_size)]
    )
    y = answers if labels is None else labels.to(x.device)
    index = (answers == y).nonzero().squeeze(1)
    if len(index) == 0:
        raise ValueError(
            f"images must have some that the classifier gets right, got {len(x)} that it gets "
            f"wrong before any attack. Are these the labels of its classes?"
        )
    return index, x[index], y[index]


def _checked(images: Any, labels: Any) -> tuple[Tensor, Tensor | None]:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a tensor of floats in [0, 1], got {got}.")
    if images.dim() != 4 or len(images) == 0:
        raise ValueError(
            f"images must have the shape (N, C, H, W) with N > 0, got {tuple(images.shape)}."
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"images must be in [0, 1], got values from {low:g} to {high:g}. Put the "
            f"normalisation into the model, as attacks and rounding work on pixels."
        )
    if labels is None:
        return round_to_8_bit(images), None
    known = torch.as_tensor(labels)
    if known.shape != (len(images),) or known.is_floating_point():
        raise ValueError(
            f"labels must be one class for each of the {len(images)} images, got {known.dtype} of "
            f"shape {tuple(known.shape)}."
        )
    return round_to_8_bit(images), known.long()
