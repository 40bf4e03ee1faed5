"""
Attacks of other libraries behind the callable ``(model, x, y) -> x_adv`` that this package calls.
None of the libraries is imported before an attack of it is called.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from .logits import PickedLogits

__all__ = [
    *("ARTAttack", "FoolboxAttack", "FunctionAttack", "SecmlAttack", "Targets"),
    *("TorchattacksAttack", "as_targets"),
]

#: ``(model, x, y) -> targets``, other classes than the labels, shape (B,)
Targets = Callable[[nn.Module, Tensor, Tensor], Tensor]
_TARGETS = ("random", "least likely", "second")


@dataclass(frozen=True)
class _Named:
    name: str

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits: Tensor = model(x)
        if self.name == "random":
            others = torch.randint(1, logits.shape[1], y.shape).to(y)  # CPU: alike on all devices
            return (y + others) % logits.shape[1]
        away = torch.zeros_like(logits).scatter(1, y[:, None], torch.inf)  # never the label
        return (logits - away).argmax(1) if self.name == "second" else (logits + away).argmin(1)


@dataclass(frozen=True)
class _One:
    number: int

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        following = (self.number + 1) % model(x[:1]).shape[1]
        return torch.where(y == self.number, following, self.number)


def as_targets(targets: Any) -> Targets | None:
    """
    :param targets: ``"random"``, ``"least likely"``, ``"second"`` (the likeliest class beside
        the label), the number of a class (images of it get the next one), a callable
        ``(model, x, y) -> targets``, or ``None``
    :return: the callable
    :raises ValueError: if it is none of these
    """
    if targets is None or callable(targets):
        return targets  # type: ignore[no-any-return]
    if isinstance(targets, int) and not isinstance(targets, bool):
        return _One(targets)
    if targets in _TARGETS:
        return _Named(targets)
    raise ValueError(
        f"targets must be one of {', '.join(_TARGETS)}, the number of a class or a callable "
        f"(model, x, y) -> targets, got {targets!r}."
    )


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


def _kinds(attack: Any) -> list[str]:
    """Names of the classes of a foolbox attack, of what is repeated where it is wrapped."""
    while type(attack).__name__ == "Repeated":
        attack = attack.attack
    return [kind.__name__ for kind in type(attack).__mro__]


class TorchattacksAttack:
    """
    A torchattacks object, or what makes one of a model. Without targets, the mode that it is in
    counts.
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


class ARTAttack:
    """An evasion attack of the adversarial-robustness-toolbox, made with an estimator."""

    def __init__(self, attack: Any, targets: Targets | None = None) -> None:
        if bool(getattr(attack, "targeted", False)) != (targets is not None):
            raise ValueError(
                "targeted=True of the attack and targets= of as_attack go together: give both "
                "or none"
            )
        self.attack = attack
        self.targets = targets

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
        own = getattr(self.attack.estimator, "model", None)
        if isinstance(own, nn.Module):
            _check_model(own, model)
        if self.targets is not None:
            y = self.targets(model, x, y)
        images: np.ndarray = self.attack.generate(
            x=x.detach().cpu().numpy(), y=y.detach().cpu().numpy()
        )
        return images


class SecmlAttack:
    """A secml-torch object; one with ``y_target`` is targeted."""

    def __init__(self, attack: Any) -> None:
        self.attack = attack

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        given = DataLoader(TensorDataset(x, y), batch_size=len(x))
        return torch.cat([images for images, _ in self.attack(model, given)])


class FunctionAttack:
    """
    A function of model, images and labels, such as those of adv-lib, with settings; targets take
    the place of the labels, with ``targeted=True``.
    """

    def __init__(
        self, attack: Callable[..., Any], settings: dict[str, Any], targets: Targets | None = None
    ) -> None:
        self.attack = attack
        self.settings = settings
        self.targets = targets

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        if self.targets is None:
            return self.attack(model, x, y, **self.settings)
        wanted = self.targets(model, x, y)
        return self.attack(model, x, wanted, **self.settings | {"targeted": True})


def _check_model(own: nn.Module, model: nn.Module) -> None:
    """An attack made for a part of the model, or for what wraps it, is of this model."""
    if not any(own is part for part in model.modules()) and model not in set(own.modules()):
        raise ValueError(
            f"attack was made for another model: it belongs to the {type(own).__name__} that it "
            f"was constructed with, got a {type(model).__name__} that is not it. For a transfer "
            f"from one to the other wrap its call: lambda model, x, y: attack(x, y)."
        )
