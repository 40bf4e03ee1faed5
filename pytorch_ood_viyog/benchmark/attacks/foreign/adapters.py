"""
Attacks of other libraries behind the callable ``(model, x, y) -> x_adv`` that this package calls.
None of the libraries is imported before an attack of it is called.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ..logits import PickedLogits
from .targets import Targets

__all__ = ["ARTAttack", "FunctionAttack", "SecmlAttack", "TorchattacksAttack"]


class TorchattacksAttack:
    """
    Makes an attack of a torchattacks object or class. Needs torchattacks.

    :param attack: a torchattacks attack, such as ``torchattacks.PGD(model, eps=8 / 255)``, or
        what makes one of a model, such as ``functools.partial(torchattacks.PGD, eps=8 / 255)``
    :param targets: makes of images and labels the classes to arrive at; without it the mode that
        the attack is in counts
    :raises ValueError: if the attack expects images that are normalised
    """

    def __init__(self, attack: Any, targets: Targets | None = None) -> None:
        if getattr(attack, "_normalization_applied", None):
            raise ValueError(
                "the attack was told set_normalization_used, but images are in [0, 1] here and "
                "the model normalises them"
            )
        self.attack = attack
        self.targets = targets

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: the classifier the torchattacks object was made for
        :param x: images (B, ...) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape
        :raises ValueError: if the torchattacks object was made for another model
        """
        attack = self._of(model)
        if self.targets is not None:
            attack = copy.deepcopy(attack, {id(attack.model): attack.model})
            attack.set_mode_targeted_by_label(quiet=True)
            y = self.targets(model, x, y)
        adversarial: Tensor = attack(x, y)
        return adversarial

    def _of(self, model: nn.Module) -> Any:
        if not hasattr(self.attack, "model"):
            return self.attack(model)
        own = self.attack.model
        _check_model(own, model)
        if isinstance(model, PickedLogits) and own is model.model:
            attack = copy.deepcopy(self.attack, {id(own): own})
            attack.set_model(model)
            return attack
        return self.attack

    def __repr__(self) -> str:
        return f"TorchattacksAttack({self.attack!r})"


class ARTAttack:
    """
    Makes an attack of an evasion attack of the adversarial-robustness-toolbox.

    :param attack: such as ``ProjectedGradientDescent(estimator, eps=8 / 255)``
    :param targets: makes of images and labels the classes to arrive at, for a targeted attack
    :raises ValueError: if only one of attack and call is targeted
    """

    def __init__(self, attack: Any, targets: Targets | None = None) -> None:
        if bool(getattr(attack, "targeted", False)) != (targets is not None):
            raise ValueError(
                "targeted=True of the attack and targets= of as_attack go together: give both "
                "or none"
            )
        self.attack = attack
        self.targets = targets

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
        """
        :param model: the classifier that the attack's estimator holds
        :param x: images (B, ...) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape
        :raises ValueError: if the estimator holds another model
        """
        own = getattr(self.attack.estimator, "model", None)
        if isinstance(own, nn.Module):
            _check_model(own, model)
        if self.targets is not None:
            y = self.targets(model, x, y)
        images: np.ndarray = self.attack.generate(
            x=x.detach().cpu().numpy(), y=y.detach().cpu().numpy()
        )
        return images

    def __repr__(self) -> str:
        return f"ARTAttack({type(self.attack).__name__})"  # the repr of some does not end


class SecmlAttack:
    """
    Makes an attack of a secml-torch object.

    :param attack: such as ``secmlt.adv.evasion.pgd.PGD(...)``; one with ``y_target`` is targeted
    """

    def __init__(self, attack: Any) -> None:
        self.attack = attack

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, ...) in [0, 1]
        :param y: labels (B,)
        :return: perturbed images, same shape
        """
        given = DataLoader(TensorDataset(x, y), batch_size=len(x))
        return torch.cat([images for images, _ in self.attack(model, given)])

    def __repr__(self) -> str:
        return f"SecmlAttack({type(self.attack).__name__})"


class FunctionAttack:
    """
    An attack that is called with model, images and labels, such as those of adv-lib, with
    settings.

    :param attack: callable ``(model, x, y, **settings) -> x_adv``
    :param settings: keyword arguments for it
    :param targets: makes of images and labels the classes to arrive at, which take the place of
        the labels, with ``targeted=True``
    """

    def __init__(
        self,
        attack: Callable[..., Any],
        settings: dict[str, Any] | None = None,
        targets: Targets | None = None,
    ) -> None:
        self.attack = attack
        self.settings = settings or {}
        self.targets = targets

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        """
        :param model: classifier in evaluation mode
        :param x: images (B, ...) in [0, 1]
        :param y: labels (B,)
        :return: what the attack returns
        """
        if self.targets is None:
            return self.attack(model, x, y, **self.settings)
        wanted = self.targets(model, x, y)
        return self.attack(model, x, wanted, **self.settings | {"targeted": True})

    def __repr__(self) -> str:
        return f"FunctionAttack({self.attack!r}, {self.settings!r})"


def _check_model(own: nn.Module, model: nn.Module) -> None:
    """An attack made for a part of the model, or for what wraps it, is of this model."""
    if not any(own is part for part in model.modules()) and model not in set(own.modules()):
        raise ValueError(
            f"attack was made for another model: it belongs to the {type(own).__name__} that it "
            f"was constructed with, got a {type(model).__name__} that is not it. For a transfer "
            f"from one to the other wrap its call: lambda model, x, y: attack(x, y)."
        )
