"""Attack libraries behind the callable ``(model, x, y) -> x_adv`` that this package expects."""

from typing import Any

from torch import Tensor, nn

__all__ = ["FoolboxAttack", "TorchattacksAttack"]


class FoolboxAttack:
    """
    Makes an attack of a foolbox object. Needs the extra ``examples``.

    :param attack: a foolbox attack, such as ``foolbox.attacks.LinfPGD(steps=20)``
    :param epsilon: budget in the attack's norm for images in [0, 1]; None for attacks that look
        for the smallest perturbation, such as DeepFool
    :raises ImportError: if foolbox is not installed
    """

    def __init__(self, attack: Any, epsilon: float | None = None) -> None:
        try:
            import foolbox
        except ImportError as error:
            raise ImportError(
                "FoolboxAttack needs foolbox: pip install 'pytorch-ood-viyog[examples]'"
            ) from error
        self._foolbox = foolbox
        self.attack = attack
        self.epsilon = epsilon

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, ...) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape
        """
        wrapped = self._foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
        criterion = self._foolbox.criteria.Misclassification(y)
        _, clipped, _ = self.attack(wrapped, x, criterion, epsilons=self.epsilon)
        adversarial: Tensor = clipped
        return adversarial

    def __repr__(self) -> str:
        return f"FoolboxAttack({self.attack!r}, epsilon={self.epsilon!r})"


class TorchattacksAttack:
    """
    Makes an attack of a torchattacks object. torchattacks is not installed by an extra.

    :param attack: a torchattacks attack, such as ``torchattacks.PGD(model, eps=8 / 255)``
    """

    def __init__(self, attack: Any) -> None:
        self.attack = attack

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: the classifier the torchattacks object was made for
        :param x: images (B, ...) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape
        :raises ValueError: if the torchattacks object was made for another model
        """
        if self.attack.model is not model:
            raise ValueError(
                "attack was made for another model: a torchattacks object belongs to the model "
                f"it was constructed with, got a {type(model).__name__} that is not it"
            )
        adversarial: Tensor = self.attack(x, y)
        return adversarial

    def __repr__(self) -> str:
        return f"TorchattacksAttack({self.attack!r})"
