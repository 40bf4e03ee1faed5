"""
Attacks on a classifier with a detector: one descent that varies loss, step and projection, and a
random search without gradients.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ..attacks.craft import round_to_8_bit
from ..attacks.square import square_search
from .projections import BLURRED, OUT_OF_QUIET, PIXELS, Project, Projection
from .system import DetectorSystem, System, TriageSystem
from .target import Attempt, Target

__all__ = ["FAMILIES", "Attack", "Descent", "Square", "attacks_of", "proportional"]

# answers asked for, per gradient step of the other attacks: one costs about a third of a step
_QUERIES_PER_STEP = 10
# pixels above it, in mean sizes of the direction, go the whole step
_WHOLE = 2.0
_PENALTY = 2.0


def _margin(fool: Tensor, calm: Tensor, wrong: Tensor) -> Tensor:
    return fool


def _selective(fool: Tensor, calm: Tensor, wrong: Tensor) -> Tensor:
    return torch.where(wrong, calm, fool)


def _orthogonal(fool: Tensor, calm: Tensor, wrong: Tensor) -> Tensor:
    along = (fool * calm).sum(dim=(1, 2, 3), keepdim=True)
    return torch.where(wrong, calm - along * fool, fool - along * calm)


def _penalty(fool: Tensor, calm: Tensor, wrong: Tensor) -> Tensor:
    return fool + _PENALTY * calm


#: what to go against, of the gradients of margin and pressure, each of length 1 for each image,
#: and where the classifier is wrong: the margin alone, which knows no detector; one of the two at
#: a time; that without what would undo the other; or their sum
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "margin": _margin,
    "selective": _selective,
    "orthogonal": _orthogonal,
    "penalty": _penalty,
}


@dataclass(frozen=True)
class Descent:
    """
    Steps in the :math:`L_\\infty` ball, shrinking to zero, with what an 8-bit file holds in the
    loop (gradients pass through the rounding). An image is done at the first step at which it
    gets through.

    :param loss: a key of :data:`LOSSES`
    :param projection: what perturbations may look like
    :param soft: steps by :func:`proportional`, otherwise every pixel goes the whole step
    :see: Bryniarski et al., *Evading Adversarial Example Detection Defenses with Orthogonal
        Projected Gradient Descent*, ICLR 2022
    """

    loss: str = "margin"
    projection: Projection = PIXELS
    soft: bool = False

    @property
    def knows_system(self) -> bool:
        """Whether it asks for gradients of the detector's score."""
        return self.loss != "margin"

    def suits(self, system: System) -> bool:
        """
        :param system: what is attacked
        :return: whether the attack can be run on it, and is not the same as a simpler one
        """
        watched = isinstance(system, (DetectorSystem, TriageSystem)) and system.differentiable
        has_residue = system.residue is not None
        return (watched or not self.knows_system) and (
            has_residue or not self.projection.needs_residue
        )

    def run(self, target: Target, steps: int, random_start: bool) -> tuple[Tensor, Tensor]:
        """
        :param target: images, budgets and system
        :param steps: gradient steps
        :param random_start: start from random changes and not from the clean images
        :return: 8-bit candidates of the shape of the images, and which of them are worth judging
        """
        free = torch.zeros_like(target.x)
        if random_start:
            free = (torch.rand(free.shape).to(free) - 0.5) * target.epsilon
        found, project = target.x.clone(), self.projection.of(target)
        done = torch.zeros(len(free), dtype=torch.bool, device=free.device)
        first_step = 2 * self.projection.travel / steps
        for number in range(steps + 1):
            index = (~done).nonzero().squeeze(1)
            if len(index) == 0:
                break
            part = target[index]
            candidates, through, direction = self._look(part, free[index], project)
            done[index] = through
            found[index[through]] = candidates[through]
            size = first_step * part.epsilon * (1 - number / (steps + 1))
            step = proportional(direction) if self.soft else direction.sign()
            limit = self.projection.reach * part.epsilon
            free[index] = torch.clamp(free[index] - size * step, -limit, limit)
        return found, done

    def _look(
        self, target: Target, free: Tensor, project: Project
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates, which get through, and where to step."""
        free = free.requires_grad_()
        candidates = _applied(target.x, target.epsilon, project(free))
        attempt = target.attempt(
            candidates,
            everywhere=self.loss in ("orthogonal", "penalty"),
            gradients=self.knows_system,
        )
        return candidates.detach(), attempt.through, self._direction(free, attempt)

    def _direction(self, free: Tensor, attempt: Attempt) -> Tensor:
        fool = _unit_gradient(attempt.margin, free, retain=self.knows_system)
        calm = _unit_gradient(attempt.pressure, free)
        return LOSSES[self.loss](fool, calm, (attempt.margin < 0).view(-1, 1, 1, 1))


class Square:
    """
    The check for masked gradients: random search on margin and pressure that knows the system's
    answers only. It is done where an image gets through.
    """

    knows_system = False

    def suits(self, system: System) -> bool:
        """:return: always true"""
        return True

    def run(self, target: Target, steps: int, random_start: bool) -> tuple[Tensor, Tensor]:
        """See :meth:`Descent.run`; it always starts from random stripes."""
        through = torch.zeros(len(target.x), dtype=torch.bool, device=target.x.device)

        def loss(candidates: Tensor, index: Tensor) -> Tensor:
            attempt = target[index].attempt(round_to_8_bit(candidates))
            through[index] = attempt.through
            open_ = attempt.margin.clamp_min(0) + attempt.pressure.clamp_min(0)
            return torch.where(attempt.through, -torch.ones_like(open_), open_)

        found = square_search(target.x, target.epsilon, loss, _QUERIES_PER_STEP * steps)
        return round_to_8_bit(found), through


Attack: TypeAlias = Descent | Square

#: families of attacks by name, those first that are cheap; each came first on some image of the
#: measured tables. ``transfer`` has none of its own: it tries on each system what got through
#: another. ``square`` tells whether gradients are masked.
FAMILIES: dict[str, dict[str, Attack]] = {
    "pgd": {"PGD": Descent(), "PGD, soft steps": Descent(soft=True)},
    "quiet": {
        "out of quiet": Descent("margin", OUT_OF_QUIET),
        "out of quiet, selective": Descent("selective", OUT_OF_QUIET),
        "out of quiet, selective, soft steps": Descent("selective", OUT_OF_QUIET, soft=True),
    },
    "smooth": {
        "blurred": Descent("margin", BLURRED),
        "blurred, selective": Descent("selective", BLURRED),
    },
    "alternating": {
        "selective": Descent("selective"),
        "selective, soft steps": Descent("selective", soft=True),
        "orthogonal": Descent("orthogonal"),
    },
    "penalty": {"penalty": Descent("penalty")},
    "transfer": {},
    "square": {"square": Square()},
}


def attacks_of(families: Iterable[str]) -> dict[str, Attack]:
    """
    :param families: names of families
    :return: their attacks by name
    """
    return {name: each for family in families for name, each in FAMILIES[family].items()}


def proportional(direction: Tensor) -> Tensor:
    """
    .. math:: \\min(1, \\max(-1, d / (2 \\overline{|d|})))

    Pixels that hardly matter stay as they are, so that the change has no more fine detail than
    the gradient has: much less for a detector of residues to see.

    :param direction: :math:`d`, (B, C, H, W)
    :return: how far each pixel goes, as a share of the step, in [-1, 1]
    """
    mean = direction.abs().mean(dim=(1, 2, 3), keepdim=True)
    tiny = torch.finfo(direction.dtype).tiny
    return (direction / (_WHOLE * mean).clamp_min(tiny)).clamp(-1, 1)


def _applied(x: Tensor, epsilon: Tensor, change: Tensor) -> Tensor:
    attacked = (x + torch.clamp(change, -epsilon, epsilon)).clamp(0, 1)
    return attacked + (round_to_8_bit(attacked) - attacked).detach()


def _unit_gradient(values: Tensor, free: Tensor, retain: bool = False) -> Tensor:
    if not values.requires_grad:  # the system was not asked, or not for gradients
        return torch.zeros_like(free)
    (gradient,) = torch.autograd.grad(values.sum(), free, retain_graph=retain)
    return torch.nn.functional.normalize(gradient.flatten(1), dim=1).view_as(free)
