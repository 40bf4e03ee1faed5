"""
The frame around a check: failures that say what the library expects, and expected failures.
"""

import functools
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

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
    "fail",
]

T = TypeVar("T")
Check = Callable[[Any, Any, Any], None]


class ContractError(AssertionError):
    """A detector does not do what the library expects; the message says what that is."""


def fail(message: str, cause: BaseException | None = None) -> NoReturn:
    """
    :param message: what was found, and what the library expects
    :param cause: exception that the detector raised, if it did
    :raises ContractError: always
    """
    __tracebackhide__ = True  # pytest then shows the line of the check
    raise ContractError(message) from cause


def expect(condition: object, message: str) -> None:
    """
    :param condition: what has to be true
    :param message: what was found, and what the library expects
    :raises ContractError: if the condition is false
    """
    __tracebackhide__ = True
    if not condition:
        fail(message)


def attempt(what: str, action: Callable[[], T]) -> T:
    """
    Do what has to work.

    :param what: what is done, for the message
    :param action: does it
    :return: what ``action`` returns
    :raises ContractError: if it raises
    """
    try:
        return action()
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(
            f"{what} is expected to work, but raised {type(error).__name__}: {error}"
        ) from error


def expect_raises(what: str, action: Callable[[], Any], *kinds: type[Exception]) -> None:
    """
    :param what: what is done, for the message
    :param action: does it
    :param kinds: the exceptions that the library documents for it
    :raises ContractError: if nothing is raised, or something else
    """
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        result = action()
    except kinds:
        return
    except Exception as error:
        fail(f"{what} must raise {names}, but raised {type(error).__name__}: {error}", error)
    shape = f" of shape {tuple(result.shape)}" if isinstance(result, Tensor) else ""
    fail(f"{what} must raise {names}, but returned {type(result).__name__}{shape}")


def expect_same_scores(
    actual: Tensor, wanted: Tensor, what: str, rtol: float, atol: float
) -> None:
    """
    :param actual: scores
    :param wanted: the scores that they must equal up to rounding
    :param what: what is compared, for the message
    :param rtol: relative tolerance
    :param atol: absolute tolerance
    :raises ContractError: if they differ in shape or value
    """
    expect(
        actual.shape == wanted.shape,
        f"{what}: shape {tuple(actual.shape)} instead of {tuple(wanted.shape)}",
    )
    actual, wanted = actual.detach().double().cpu(), wanted.detach().double().cpu()
    close = torch.isclose(actual, wanted, rtol=rtol, atol=atol, equal_nan=False)
    worst = float((actual - wanted).abs().max()) if actual.numel() else 0.0
    expect(
        bool(close.all()),
        f"{what}: {int((~close).sum())} of {close.numel()} scores differ, by up to {worst:.3g}",
    )


def check(method: Check) -> Check:
    """
    Make a method a check of the contract: it is recorded as run, and if the subclass lists it in
    ``expected_failures``, it must fail.

    :param method: takes the contract, the detector and the loader
    :return: the method to collect
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
        if reason is not None:
            fail(
                f"{name} passes, but is listed in expected_failures ({reason}). Take it off the "
                f"list."
            )

    run.is_check = True  # type: ignore[attr-defined]
    return run


def checks_of(contract: type) -> list[str]:
    """
    :param contract: the contract or a subclass
    :return: names of its checks, in order; also of those that a subclass has taken out
    """
    members = [member for base in contract.__mro__ for member in vars(base).items()]
    return sorted({name for name, value in members if getattr(value, "is_check", False)})
