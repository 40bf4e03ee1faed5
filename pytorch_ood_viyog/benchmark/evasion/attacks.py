"""
Attacks on a classifier with a detector: one descent that varies loss, step and projection, and a
random search without gradients.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ..attacks.images import round_to_8_bit
from ..attacks.square import margins, square_search
from .projections import BLURRED, OUT_OF_QUIET, PIXELS, Projection
from .system import System

__all__ = ["ATTACKS", "Attack", "Attempt", "Descent", "Square", "Target", "proportional"]

# answers asked for, per gradient step of the other attacks: one costs about a third of a step
_QUERIES_PER_STEP = 10
# pixels above it, in mean sizes of the direction, go the whole step
_WHOLE = 2.0


class Attempt(NamedTuple):
    """What came of candidates, with gradients where they ask for them; each of shape (B,)."""

    #: logit of the label minus the largest other one: negative where the classifier is wrong
    margin: Tensor
    #: how close to an alarm, see :class:`~pytorch_ood_viyog.benchmark.evasion.system.Watch`
    pressure: Tensor
    #: whether the classifier is wrong and no alarm is raised
    through: Tensor


@dataclass(frozen=True)
class Target:
    """Clean 8-bit images (B, C, H, W), labels, and the largest change of each, (B, 1, 1, 1)."""

    system: System
    x: Tensor
    y: Tensor
    epsilon: Tensor

    def __getitem__(self, index: Tensor) -> "Target":
        return Target(self.system, self.x[index], self.y[index], self.epsilon[index])

    def attempt(
        self, candidates: Tensor, *, everywhere: bool = True, gradients: bool = True
    ) -> Attempt:
        """
        What comes of a candidate for each image. The system is asked where the classifier is
        right only if ``everywhere``: else the pressure is 0 there, and the detector's work is
        saved; and for gradients only if the attack needs them.
        """
        margin = margins(self.system.classify(candidates), self.y)
        wrong = margin.detach() < 0
        asked = (wrong | everywhere).nonzero().squeeze(1)
        pressure, through = torch.zeros_like(margin.detach()), torch.zeros_like(wrong)
        if len(asked):
            with torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
                seen = self.system.watch(candidates[asked])
            pressure = pressure.index_put((asked,), seen.pressure)
            through[asked] = wrong[asked] & ~seen.alarm
        return Attempt(margin, pressure, through)


@dataclass(frozen=True)
class Descent:
    """
    Steps in the :math:`L_\\infty` ball, shrinking to zero, with what an 8-bit file holds in the
    loop (gradients pass through the rounding). An image is done at the first step at which it
    gets through.

    :param loss: ``"margin"`` of the classifier alone, which knows no detector; ``"selective"``,
        the pressure of the system where the classifier is wrong and the margin elsewhere; or
        ``"orthogonal"``, the same without what would undo the other
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
        """:return: whether it can be run on a system, and is not the same as a simpler attack"""
        watched = type(system) is not System and system.differentiable
        knows_directions = system.residue is not None or not self.projection.needs_residue
        return knows_directions and (watched or not self.knows_system)

    def run(self, target: Target, steps: int, random_start: bool) -> tuple[Tensor, Tensor]:
        """:return: 8-bit candidates for a target, and which of them are worth judging"""
        free = torch.zeros_like(target.x)
        if random_start:
            free = (torch.rand(free.shape).to(free) - 0.5) * target.epsilon
        found, done = target.x.clone(), torch.zeros_like(target.y, dtype=torch.bool)
        project = self.projection.of(target.system.residue, tuple(free.shape[2:]))
        first_step = 2 * self.projection.travel / steps
        for number in range(steps + 1):
            index = (~done).nonzero().squeeze(1)
            if len(index) == 0:
                break
            part, own = target[index], free[index].requires_grad_()
            candidates = _applied(part.x, part.epsilon, project(own))
            attempt = part.attempt(
                candidates, everywhere=self.loss == "orthogonal", gradients=self.knows_system
            )
            done[index] = attempt.through
            found[index[attempt.through]] = candidates.detach()[attempt.through]
            direction = self._direction(own, attempt)
            step = proportional(direction) if self.soft else direction.sign()
            size = first_step * part.epsilon * (1 - number / (steps + 1))
            limit = self.projection.reach * part.epsilon
            free[index] = torch.clamp(own.detach() - size * step, -limit, limit)
        return found, done

    def _direction(self, free: Tensor, attempt: Attempt) -> Tensor:
        """What to go against, of gradients of length 1 for each image."""
        fool = _unit_gradient(attempt.margin, free, retain=self.knows_system)
        if not self.knows_system:
            return fool
        calm = _unit_gradient(attempt.pressure, free)
        if self.loss == "orthogonal":
            along = (fool * calm).sum(dim=(1, 2, 3), keepdim=True)
            fool, calm = fool - along * calm, calm - along * fool
        return torch.where((attempt.margin < 0).view(-1, 1, 1, 1), calm, fool)


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

#: attacks by name, those first that are cheap; each came first on some images of the measured
#: tables, but ``square``, which tells whether gradients are masked
ATTACKS: dict[str, Attack] = {
    "pgd": Descent(),
    "pgd-soft": Descent(soft=True),
    "quiet": Descent("margin", OUT_OF_QUIET),
    "quiet-selective": Descent("selective", OUT_OF_QUIET),
    "quiet-selective-soft": Descent("selective", OUT_OF_QUIET, soft=True),
    "smooth": Descent("margin", BLURRED),
    "smooth-selective": Descent("selective", BLURRED),
    "selective": Descent("selective"),
    "orthogonal": Descent("orthogonal"),
    "square": Square(),
}


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
