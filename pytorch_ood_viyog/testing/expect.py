"""
The frame around a check: failures that say what the library expects, and expected failures.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = [
    "ContractError",
    "attempt",
    "check",
    "checks_of",
    "expect",
    "expect_raises",
    "expect_same_scores",
]

T = TypeVar("T")


class ContractError(AssertionError):
    """A detector does not do what the library expects; the message says what that is."""


def expect(condition: object, message: str) -> None:
    """Unless the condition is true, the message says what was found and what is expected."""
    __tracebackhide__ = True  # pytest then shows the line of the check
    if not condition:
        raise ContractError(message)


def attempt(what: str, action: Callable[[], T]) -> T:
    """Do what has to work, and return its result; ``what`` is for the message."""
    try:
        return action()
    except ContractError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise ContractError(f"{what} is expected to work, but raised {found}") from error


def expect_raises(what: str, action: Callable[[], Any], *kinds: type[Exception]) -> None:
    """The action must raise one of the exceptions that the library documents for it."""
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        result = action()
    except kinds:
        return
    except Exception as error:
        found = f"raised {type(error).__name__}: {error}"
        raise ContractError(f"{what} must raise {names}, but {found}") from error
    shape = f" of shape {tuple(result.shape)}" if isinstance(result, Tensor) else ""
    expect(False, f"{what} must raise {names}, but returned {type(result).__name__}{shape}")


def expect_same_scores(
    actual: Tensor, wanted: Tensor, what: str, rtol: float, atol: float
) -> None:
    """Scores must have the same shape, and the same values up to rounding."""
    shapes = tuple(actual.shape), tuple(wanted.shape)
    expect(shapes[0] == shapes[1], f"{what}: shape {shapes[0]} instead of {shapes[1]}")
    actual, wanted = actual.detach().double().cpu(), wanted.detach().double().cpu()
    close = torch.isclose(actual, wanted, rtol=rtol, atol=atol)
    worst = float((actual - wanted).abs().max()) if actual.numel() else 0.0
    expect(
        close.all(),
        f"{what}: {int((~close).sum())} of {close.numel()} scores differ, by up to {worst:.3g}",
    )


def check(method: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """
    Make a method of contract, detector and loader a check: it is recorded as run, and if the
    subclass lists it in ``expected_failures``, it must fail.
    """
    name = method.__name__

    @functools.wraps(method)
    def run(self: Any, detector: Any, loader: Any) -> None:
        type(self).executed.add(name)
        reason = self.expected_failures.get(name)
        try:
            method(self, detector, loader)
        except ContractError as error:
            if reason is None:
                raise
            import pytest

            pytest.xfail(f"{reason} ({error})")
        expect(
            reason is None,
            f"{name} passes, but is listed in expected_failures ({reason}). Take it off the list.",
        )

    run.is_check = True  # type: ignore[attr-defined]
    return run


def checks_of(contract: type) -> list[str]:
    """Names of a contract's checks, in order; also of those that a subclass has taken out."""
    members = [member for base in contract.__mro__ for member in vars(base).items()]
    return sorted({name for name, value in members if getattr(value, "is_check", False)})
