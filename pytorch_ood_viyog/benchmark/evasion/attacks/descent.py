"""
The descent that all gradient attacks share: rules say where to step, shapes what may be changed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...attacks.craft import round_to_8_bit
from ..systems.system import ClassifierAlone, System
from .steps import Step, signed
from .target import Attempt, Target

__all__ = ["Attack", "Descent", "Plain", "Rule", "Shape"]


class Attack(ABC):
    """Looks for changes of images that get through."""

    #: whether it asks for gradients of the detector's score
    needs_gradients: bool = True

    def suits(self, system: System) -> bool:
        """
        :param system: what is attacked
        :return: whether the attack can be run on it, and is not the same as a simpler one
        """
        blind = isinstance(system, ClassifierAlone) or not system.differentiable
        return not (blind and self.needs_gradients)

    @abstractmethod
    def run(self, target: Target, steps: int, random_start: bool) -> tuple[Tensor, Tensor]:
        """
        :param target: images, budgets and system
        :param steps: gradient steps, or a measure of effort
        :param random_start: start from random changes and not from the clean images
        :return: 8-bit candidates of the shape of the images, and which of them are worth judging
        """


class Rule(ABC):
    """Where to step, given how to fool the classifier and how to calm the detector."""

    #: whether it knows the detector
    knows_system: bool = True
    #: whether the detector matters to it before the classifier is wrong
    heeds_from_start: bool = False

    @abstractmethod
    def direction(self, fool: Tensor, calm: Tensor, attempt: Attempt) -> Tensor:
        """
        :param fool: gradient of the margin, of length 1 for each image, (B, C, H, W)
        :param calm: gradient of the pressure, of length 1
        :param attempt: what came of the candidates
        :return: what to go against
        """


class Shape(ABC):
    """What perturbations may look like: a function of free variables of the images' shape."""

    #: how far free variables may go, in budgets: smoothing makes them smaller
    reach: float = 1.0
    #: how far all steps together could take them, in budgets
    travel: float = 2.0

    def suits(self, system: System) -> bool:
        """
        :param system: what is attacked
        :return: whether there is anything to make the shape of
        """
        return True

    @abstractmethod
    def of(self, target: Target) -> Callable[[Tensor], Tensor]:
        """
        :param target: images
        :return: makes perturbations of free variables (B, C, H, W), not clipped to the budget yet
        """


class Plain(Shape):
    """Every pixel for itself."""

    def of(self, target: Target) -> Callable[[Tensor], Tensor]:
        """See :meth:`Shape.of`."""
        return lambda free: free


@dataclass(frozen=True)
class Descent(Attack):
    """
    Steps in the :math:`L_\\infty` ball, shrinking to zero, with what an 8-bit file holds in the
    loop (gradients pass through the rounding). An image is done at the first step at which it
    gets through.

    :param rule: where to step
    :param shape: what perturbations may look like
    :param step: how far each pixel goes
    """

    rule: Rule
    shape: Shape
    step: Step = signed

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """Whether the rule knows the detector."""
        return self.rule.knows_system

    def suits(self, system: System) -> bool:
        """See :meth:`Attack.suits`."""
        return super().suits(system) and self.shape.suits(system)

    def run(self, target: Target, steps: int, random_start: bool) -> tuple[Tensor, Tensor]:
        """See :meth:`Attack.run`."""
        free = torch.zeros_like(target.x)
        if random_start:
            free = (torch.rand(free.shape).to(free) - 0.5) * target.epsilon
        found, shape = target.x.clone(), self.shape.of(target)
        first_step = 2 * self.shape.travel / steps
        done = torch.zeros(len(free), dtype=torch.bool, device=free.device)
        for number in range(steps + 1):
            index = (~done).nonzero().squeeze(1)
            if len(index) == 0:
                break
            part = target[index]
            moved = free[index].requires_grad_()
            candidates = _applied(target.x[index], part.epsilon, shape(moved))
            attempt = self._attempt(part, candidates)
            done[index] = attempt.through
            found[index[attempt.through]] = candidates.detach()[attempt.through]
            direction = self._direction(moved, attempt)
            size = first_step * part.epsilon * (1 - number / (steps + 1))
            limit = self.shape.reach * part.epsilon
            moved = moved.detach() - size * self.step(direction)
            free[index] = torch.minimum(torch.maximum(moved, -limit), limit)
        return found, done

    def _attempt(self, target: Target, candidates: Tensor) -> Attempt:
        every = torch.arange(len(candidates), device=candidates.device)
        if self.rule.heeds_from_start:
            return target.attempt(candidates, every)
        return target.attempt_in_turn(candidates, every, self.rule.knows_system)

    def _direction(self, free: Tensor, attempt: Attempt) -> Tensor:
        knows = self.rule.knows_system
        fool = _unit_gradient(attempt.margin, free, retain=knows)
        calm = _unit_gradient(attempt.pressure, free) if knows else torch.zeros_like(fool)
        return self.rule.direction(fool, calm, attempt)


def _applied(x: Tensor, epsilon: Tensor, change: Tensor) -> Tensor:
    change = torch.minimum(torch.maximum(change, -epsilon), epsilon)
    attacked = (x + change).clamp(0, 1)
    return attacked + (round_to_8_bit(attacked) - attacked).detach()


def _unit_gradient(values: Tensor, free: Tensor, retain: bool = False) -> Tensor:
    if not values.requires_grad:  # a classifier alone is never under pressure
        return torch.zeros_like(free)
    (gradient,) = torch.autograd.grad(values.sum(), free, retain_graph=retain)
    return torch.nn.functional.normalize(gradient.flatten(1), dim=1).view_as(free)
