"""
Anybody's attack as this package calls it, recognised by where its class or function comes from.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .adapters import (
    ARTAttack,
    FoolboxAttack,
    FunctionAttack,
    SecmlAttack,
    TorchattacksAttack,
    as_targets,
)

__all__ = ["Attack", "KeyedAttack", "as_attack"]

#: ``(model, x, y) -> x_adv``, images in [0, 1] with their labels
Attack = Callable[[nn.Module, Tensor, Tensor], Any]


@dataclass(frozen=True)
class KeyedAttack:
    """An attack, and the text that stands for it and all its settings where images are stored."""

    attack: Attack
    key: str

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        return self.attack(model, x, y)


def as_attack(
    attack: Any,
    *,
    epsilon: float | None = None,
    criterion: Callable[[Tensor], Any] | None = None,
    targets: Any = None,
    key: str | None = None,
    **settings: Any,
) -> Attack:
    """
    Makes an attack of an object of foolbox, torchattacks, the adversarial-robustness-toolbox
    (ART), adv-lib or secml-torch as their documentation has it, of a partial of one, or of any
    function of model, images and labels. What comes back from it may be a tensor, an array, or
    a tuple with the images first; of foolbox's triple it is the clipped ones.

    .. code-block:: python

        as_attack(foolbox.attacks.LinfPGD(), epsilon=8 / 255)
        as_attack(foolbox.attacks.LInfFMNAttack())  # looks for the smallest change
        as_attack(torchattacks.PGD(model, eps=8 / 255), targets="least likely")
        as_attack(adv_lib.attacks.apgd, eps=8 / 255, norm=float("inf"))
        as_attack(art.attacks.evasion.HopSkipJump(estimator))

    :param attack: the attack
    :param epsilon: budget, for foolbox
    :param criterion: makes a criterion of the labels, for foolbox
    :param targets: classes to arrive at, see
        :func:`~pytorch_ood_viyog.benchmark.attacks.adapters.as_targets`. An image counts as
        adversarial wherever it arrives.
    :param key: text that stored images belong to; default are all the settings that are found
    :param settings: keyword arguments for a function, such as those of adv-lib
    :return: callable ``(model, x, y) -> x_adv``
    :raises TypeError: if it is no attack that can be called like this
    :raises ValueError: if it needs more than it is given
    """
    if key is not None:
        found = as_attack(
            attack, epsilon=epsilon, criterion=criterion, targets=targets, **settings
        )
        return KeyedAttack(found, key)
    asked = {"epsilon": epsilon, "criterion": criterion, "targets": as_targets(targets)}
    given = {name: value for name, value in asked.items() if value is not None}
    attack, wrap, extra = _adapter(attack, settings)
    if wrap is FunctionAttack and not given and not extra["settings"]:
        return attack  # type: ignore[no-any-return]
    given = extra | given
    known = inspect.signature(wrap).parameters
    _no_settings(attack, {name: value for name, value in given.items() if name not in known})
    wrapped: Attack = wrap(attack, **given)
    return wrapped


def _adapter(attack: Any, settings: Mapping[str, Any]) -> tuple[Any, type, dict[str, Any]]:
    """The attack itself, what adapts it, and what it came with."""
    inner, bound = _unbound(attack)
    library = _library(inner)
    if library == "torchattacks":  # its classes make an attack of a model
        _no_settings(attack, settings)
        return attack, TorchattacksAttack, {}
    if isinstance(inner, type):
        how = _HOW.get(library, "made with its settings")
        raise TypeError(f"{_called(inner)} is a class: give an object of it, {how}")
    if library == "foolbox":
        epsilon = bound.pop("epsilons", None)
        _no_settings(attack, bound | dict(settings))
        return inner, FoolboxAttack, {} if epsilon is None else {"epsilon": epsilon}
    if library in _ADAPTERS:
        _no_settings(attack, bound | dict(settings))
        return inner, _ADAPTERS[library], {}
    return attack, FunctionAttack, {"settings": _complete(attack, dict(settings))}


def _no_settings(attack: Any, settings: Mapping[str, Any]) -> None:
    if settings:
        raise ValueError(
            f"{', '.join(settings)} cannot be given for {_called(attack)}: set it where the "
            f"attack is made"
        )


def _complete(attack: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a function with which it can be called."""
    if not callable(attack):
        raise TypeError(
            f"{_called(attack)} is no attack: give a callable (model, x, y) -> x_adv or an "
            f"attack of foolbox, torchattacks, ART, adv-lib or secml-torch"
        )
    needed = _needed(attack, settings)
    if needed == ["targeted"]:  # adv-lib's fga and vfga have no default
        return settings | {"targeted": False}
    if needed:
        told = ", ".join(f"{name}=..." for name in needed)
        raise ValueError(f"{_called(attack)} needs more: as_attack(..., {told})")
    return settings


_ADAPTERS: dict[str, type] = {"art": ARTAttack, "secmlt": SecmlAttack}
_HOW = {
    "foolbox": "such as LinfPGD()",
    "art": "made with an estimator",
}


def _unbound(attack: Any) -> tuple[Any, dict[str, Any]]:
    """What a partial or a method belongs to, and the keyword arguments of the partial."""
    if isinstance(attack, functools.partial) and not attack.args:
        inner, bound = _unbound(attack.func)
        return inner, bound | attack.keywords
    if inspect.ismethod(attack) and attack.__name__ in ("generate", "__call__", "forward"):
        return attack.__self__, {}
    return attack, {}


def _library(thing: Any) -> str:
    kinds = thing.__mro__ if isinstance(thing, type) else type(thing).__mro__
    for kind in kinds:
        name = kind.__module__.split(".")[0]
        if name in ("foolbox", "torchattacks", "art", "secmlt"):
            return name
    return ""


def _needed(attack: Callable[..., Any], settings: Mapping[str, Any]) -> list[str]:
    """
    :return: arguments beside model, images and labels that have no value
    :raises TypeError: if those three cannot be given
    """
    try:
        signature = inspect.signature(attack)
    except (TypeError, ValueError):  # built in: it shows when it is called
        return []
    try:
        bound = signature.bind_partial(None, None, None, **settings)
    except TypeError as error:
        raise TypeError(
            f"{_called(attack)} cannot be called with (model, x, y): {error}"
        ) from error
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in optional
        and name not in bound.arguments
    ]


def _called(attack: Any) -> str:
    inner, _ = _unbound(attack)
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{name} of {_library(inner)}" if _library(inner) else name
