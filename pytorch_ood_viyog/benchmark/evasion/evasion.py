"""
evasion: what a detector costs an attacker who knows everything.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ...layer.checks import check_count, check_number
from ...layer.manners import as_found_with_gradients, unwrap
from .attacks import FAMILIES, attacks_of
from .inputs import check_attacks, check_budgets, check_images
from .report import Evasion
from .run import Plan, attacked
from .search import Effort
from .systems.preparing import ALONE, Given, model_of, named_systems, systems_of
from .systems.system import System
from .transfer import transferred

__all__ = ["BUDGETS", "evasion"]

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
    attacks: Sequence[str] = tuple(FAMILIES),
    steps: int = 40,
    restarts: int = 1,
    draws: int = 8,
    checks: int = 20,
    batch_size: int = 50,
    cache: str | Path | None = None,
    resamples: int = 1000,
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
    :data:`~pytorch_ood_viyog.benchmark.evasion.attacks.families.FAMILIES`. A system whose scores
    have no gradient in respect to the image is attacked by what does not know it, by transfer and
    by a search without gradients, and the table says so.

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
    :param attacks: names of families of attacks; plain PGD is always among them
    :param steps: gradient steps of each attack
    :param restarts: runs of each attack; the first starts from the clean image
    :param draws: how often a system with random parts is asked about the same image: gradients
        are means, and half of the draws must accept
    :param checks: images for the sanity checks, 0 for none
    :param batch_size: images that are attacked together
    :param cache: folder for finished batches; an interrupted run goes on from there
    :param resamples: bootstrap resamples of the price's interval
    :param seed: seed of attacks and resamples
    :param progress: show progress bars
    :return: accepted shares, prices, and everything behind them
    :raises TypeError: if an argument has the wrong type
    :raises ValueError: if one is out of range or does not fit the others, or no image is left
    """
    named = named_systems(system)
    classifier, families = model_of(named, model), check_attacks(attacks)
    x, known = check_images(images, labels)
    check_number("alarms", alarms, low=1e-6, high=0.5)
    for name, count, low in (("checks", checks, 0), ("resamples", resamples, 0)):
        check_count(name, count, low=low)
    for name, count in (("steps", steps), ("restarts", restarts), ("draws", draws)):
        check_count(name, count, low=1)
    check_count("batch_size", batch_size, low=1)
    chosen = attacks_of(families)
    plan = Plan(
        budgets=check_budgets(budgets),
        effort=Effort(chosen, steps, restarts, draws),
        batch_size=batch_size,
        checks=checks,
        seed=seed,
        cache=None if cache is None else Path(cache),
        how=f"{budgets} {list(chosen)} {steps} {restarts} {draws} {batch_size} {checks} {seed}",
    )
    x = x.to(next((p.device for p in classifier.parameters()), x.device))
    with as_found_with_gradients(unwrap(classifier)):
        torch.manual_seed(seed)
        systems = systems_of(named, classifier, calibration, alarms, x, draws)
        index, x, y = _answered_rightly(systems[ALONE], x, known, batch_size)
        results = {
            name: attacked(name, each, x, y, plan, progress) for name, each in systems.items()
        }
        shares: dict[str, dict[str, float]] = {}
        if "transfer" in families:
            results, shares = transferred(systems, results, x, y, plan.budgets)
        clean = {name: _alarms(each, x, batch_size) for name, each in systems.items()}
    return Evasion(
        budgets=plan.budgets,
        systems=results,
        index=index.cpu(),
        left_out=len(images) - len(index),
        alarms=clean,
        settings=_in_words(plan, families, alarms),
        resamples=resamples,
        seed=seed,
        transfer=shares,
    )


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


@torch.no_grad()
def _alarms(system: System, x: Tensor, batch_size: int) -> float:
    passes = torch.cat([system.passes(part) for part in torch.split(x, batch_size)])
    return 1 - float(passes.float().mean())


def _in_words(plan: Plan, families: Sequence[str], alarms: float) -> str:
    effort = plan.effort
    runs = f"{effort.restarts} run{'s' if effort.restarts > 1 else ''}"
    return (
        f"Thresholds of detectors at {alarms:.0%} alarms on ID images. {len(effort.attacks)} "
        f"attacks ({', '.join(families)}), {effort.steps} steps and {runs} each."
    )
