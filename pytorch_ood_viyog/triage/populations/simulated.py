"""
Four populations made from ID images alone: as they are, NOISY, ADV and OOD.
"""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from .benign import benign
from .bounded import bounded
from .classifier import Classifier
from .foreign import foreign
from .minimal import minimal
from .remade import remade
from .smooth import smooth
from .verdict import Verdict

__all__ = ["ATTACKS", "Population", "simulated"]

Attack = Callable[[Classifier, Tensor, Tensor, int], Tensor]


def _one_step(classifier: Classifier, images: Tensor, answers: Tensor, seed: int) -> Tensor:
    return bounded(classifier, images, answers, 1, seed)


def _five_steps(classifier: Classifier, images: Tensor, answers: Tensor, seed: int) -> Tensor:
    return bounded(classifier, images, answers, 5, seed)


#: families of simulated attacks
ATTACKS: dict[str, Attack] = {
    "one step": _one_step,
    "five steps": _five_steps,
    "minimal": minimal,
    "smooth": smooth,
}

# how often a family is drawn: weak budgets seldom fool
_DRAWS = {"one step": 3}
# fewest images of foreign content: of few ID images, each is drawn more often
_FOREIGN = 100
# images at once, each part with a seed of its own
_CHUNK = 64

Change = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Population:
    """Images of one kind that were made from ID images."""

    #: name of the family
    name: str
    #: what they are
    verdict: Verdict
    #: images in [0, 1] in 8 bit, :math:`n \\times C \\times *S`
    images: Tensor
    #: which ID image each was made from, shape :math:`n`
    source: Tensor


def simulated(
    classifier: Classifier,
    images: Tensor,
    *,
    seed: int = 0,
    leave_out: Collection[str] = (),
    through: Change | None = None,
    progress: bool = False,
) -> Iterator[Population]:
    """
    :param classifier: the user's model, whose own answers are attacked: no labels are needed
    :param images: ID images in [0, 1]
    :param seed: seed of all that is random
    :param leave_out: names of populations that are not made: of :data:`ATTACKS`, or ``"benign"``,
        ``"foreign"``, ``"foreign, benign"``, ``"foreign, remade"``
    :param through: what happens to every image between an attacker and the model, such as a
        codec: a function of images and a seed
    :param progress: show a progress bar
    :return: iterator over the populations; attacks in 8 bit and only where the answer changes
    """
    way = through or _unchanged
    enough = math.ceil(_FOREIGN / max(1, len(images)))
    changes: dict[str, tuple[Verdict, Change, int]] = {
        "ID": (Verdict.ID, _unchanged, 1),
        "benign": (Verdict.NOISY, benign, 2),
        "foreign": (Verdict.OOD, foreign, enough),
        "foreign, benign": (Verdict.OOD, _foreign_benign, 1),
        "foreign, remade": (Verdict.OOD, remade, max(2, enough)),
    }
    names = [name for name in (*changes, *ATTACKS) if name not in leave_out]
    bar = tqdm(names, desc="simulate", leave=False, delay=1, disable=None if progress else True)
    for number, name in enumerate(bar):
        bar.set_postfix_str(name)
        own = seed + 10_000 * number
        if name in changes:
            verdict, change, draws = changes[name]
            drawn = [way(change(images, own + draw), own + draw) for draw in range(draws)]
            source = torch.arange(len(images)).repeat(draws)
            yield Population(name, verdict, torch.cat(drawn), source)
        else:
            yield _attacked(name, classifier, images, own, way)


def _attacked(
    name: str, classifier: Classifier, images: Tensor, seed: int, way: Change
) -> Population:
    answers = classifier.answers(way(images, seed))
    found, sources = [], []
    for draw in range(_DRAWS.get(name, 1)):
        parts = zip(torch.split(images, _CHUNK), torch.split(answers, _CHUNK), strict=True)
        changed = [
            ATTACKS[name](classifier, x, y, seed + 100 * draw + i)
            for i, (x, y) in enumerate(parts)
        ]
        arrived = way(torch.cat(changed), seed + draw)
        fooled = classifier.fooled(arrived, answers)
        found.append(arrived[fooled])
        sources.append(fooled.nonzero()[:, 0].cpu())
    return Population(name, Verdict.ADV, torch.cat(found), torch.cat(sources))


def _unchanged(images: Tensor, seed: int) -> Tensor:
    return images


def _foreign_benign(images: Tensor, seed: int) -> Tensor:
    return benign(foreign(images, seed), seed)
