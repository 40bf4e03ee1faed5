"""
Attacks of foolbox behind the callable ``(model, x, y) -> x_adv`` that this package calls.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .targets import Targets

__all__ = ["FoolboxAttack"]


class FoolboxAttack:
    """
    Makes an attack of a foolbox object. Needs foolbox.

    :param attack: a foolbox attack, such as ``foolbox.attacks.LinfPGD(steps=20)``
    :param epsilon: budget in the attack's norm for images in [0, 1]; None for attacks that look
        for the smallest perturbation, such as DeepFool
    :param criterion: makes a criterion of the labels, such as the class
        ``foolbox.criteria.Misclassification``, which is the default
    :param targets: makes of images and labels the classes to arrive at
    :raises ImportError: if foolbox is not installed
    :raises ValueError: if the attack needs a budget and has none, or both a criterion and targets
        are given
    """

    def __init__(
        self,
        attack: Any,
        epsilon: float | None = None,
        criterion: Callable[[Tensor], Any] | None = None,
        targets: Targets | None = None,
    ) -> None:
        try:
            import foolbox
        except ImportError as error:
            raise ImportError(
                "FoolboxAttack needs foolbox: pip install 'pytorch-ood-viyog[foolbox]'"
            ) from error
        if epsilon is None and "FixedEpsilonAttack" in _kinds(attack):
            raise ValueError(
                f"{_kinds(attack)[0]} of foolbox needs a budget: as_attack(..., epsilon=8 / 255)"
            )
        if epsilon is not None and not isinstance(epsilon, (int, float)):
            raise ValueError(f"epsilon must be one budget, a number, got {epsilon!r}.")
        if criterion is not None and targets is not None:
            raise ValueError("criterion and targets are both given. Give one of them.")
        self._foolbox = foolbox
        self.attack = attack
        self.epsilon = epsilon
        self.criterion = criterion
        self.targets = targets

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, ...) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape
        """
        wrapped = self._foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
        criteria = self._foolbox.criteria
        if self.targets is not None:
            wanted = criteria.TargetedMisclassification(self.targets(model, x, y))
        else:
            wanted = (self.criterion or criteria.Misclassification)(y)
        try:
            _, clipped, _ = self.attack(wrapped, x, wanted, epsilons=self.epsilon)
        except ValueError as error:
            if "unsupported criterion" not in str(error):
                raise
            raise ValueError(
                f"{_kinds(self.attack)[0]} of foolbox does not take {type(wanted).__name__}: "
                f"give targets= or another criterion="
            ) from error
        adversarial: Tensor = clipped
        return adversarial

    def __repr__(self) -> str:
        more = {"criterion": self.criterion, "targets": self.targets}
        given = "".join(f", {name}={value!r}" for name, value in more.items() if value)
        return f"FoolboxAttack({self.attack!r}, epsilon={self.epsilon!r}{given})"


def _kinds(attack: Any) -> list[str]:
    """Names of the classes of a foolbox attack, of what is repeated where it is wrapped."""
    while type(attack).__name__ == "Repeated":
        attack = attack.attack
    return [kind.__name__ for kind in type(attack).__mro__]
