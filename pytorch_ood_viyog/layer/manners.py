"""
Manners towards the user's model: unwrap it, run it in evaluation mode, and leave mode, hooks and
random number generators as they were found, also after an exception. And towards the user:
warnings point at a line of theirs.
"""

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import DataParallel, Module
from torch.nn.parallel import DistributedDataParallel

from .hooks import LayerReached

__all__ = [
    "answer_of",
    "as_found",
    "as_found_with_gradients",
    "device_of",
    "modules_of",
    "same_random_state",
    "unwrap",
    "warn_user",
    "without_compiled",
]

_PACKAGE = __name__.partition(".")[0]
# what may stand between a user's line and this package: decorators, Module.__call__
_LIBRARIES = {"torch", "pytorch_ood"}

# two threads must not switch modes of one model at once: the later one would restore the
# evaluation mode it found while the earlier one was still at work
_MODE_LOCK = threading.RLock()


class _Eager:
    """
    Switches compiled code off while any thread is inside. torch has one stance for all threads:
    if each restored what it had found, overlapping threads would leave the wrong one behind.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._stance = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._stance.enter_context(torch.compiler.set_stance("force_eager"))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._stance.close()


_EAGER = _Eager()


def unwrap(model: Module) -> Module:
    """
    Take the user's module out of ``DataParallel``, ``DistributedDataParallel`` and
    ``torch.compile``, in any nesting.
    """
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif isinstance(compiled := getattr(model, "_orig_mod", None), Module):
            model = compiled
        else:
            return model


def device_of(model: Module) -> torch.device:
    """
    :return: device of a model's parameters; the CPU for one without any, or whose parameters are
        elsewhere as long as they do not work
    """
    parameter = next(model.parameters(), None)
    known = parameter is not None and not parameter.is_meta
    return parameter.device if parameter is not None and known else torch.device("cpu")


def without_compiled(model: Module) -> None:
    """
    Put the modules that ``torch.compile`` wrapped in place of their wrappers, which call what
    they were made from, whatever is put in its place. Changes the model.
    """
    for module in [*model.modules()]:
        for name, child in module._modules.items():
            if child is not None and "_orig_mod" in child._modules:
                module._modules[name] = unwrap(child)
        module._compiled_call_impl = None


def modules_of(model: Module) -> list[Module]:
    """
    :return: what ``model.modules()`` yields, in another order and in a fifth of the time, which
        counts for single samples
    """
    found, seen = [model], {model}
    for module in found:  # grows meanwhile
        for child in module._modules.values():
            if child is not None and child not in seen:
                seen.add(child)
                found.append(child)
    return found


def answer_of(model: Module, x: Tensor) -> Any:
    """
    :return: what the model answers
    :raises TypeError: if it fails at integers alone; most models take none, few say so
    """
    try:
        return model(x)
    except RuntimeError as error:
        if x.is_floating_point() or not _takes(model, x.float()):
            raise
        raise TypeError(
            f"{type(model).__name__} does not run on {x.dtype} ({error}). Convert the inputs as "
            f"the model expects them, such as x.float() / 255."
        ) from error


def _takes(model: Module, x: Tensor) -> bool:
    try:
        model(x)
    except LayerReached:  # a pass that ends at a layer got there
        return True
    except Exception:  # whatever it is, it is not the type of the numbers
        return False
    return True


@contextmanager
def as_found(model: Module) -> Iterator[None]:
    """
    Run the unwrapped model in evaluation mode, eagerly and without gradients inside the block, and
    leave the mode of every submodule and the random number generators as they were.

    A model that is in evaluation mode already is not touched, so any number of threads can run
    it at once. One that is in training mode is switched for the time of the block; threads that
    come here meanwhile wait, threads that call the model elsewhere see the evaluation mode.
    """
    with ExitStack() as stack:
        modules = modules_of(model)
        stack.enter_context(_evaluation_mode(modules))
        stack.enter_context(same_random_state(model))
        stack.enter_context(torch.no_grad())
        if any(_is_compiled(module) for module in modules):
            # compiled submodules do not run hooks that came after their compilation
            stack.enter_context(_EAGER)
        yield


@contextmanager
def same_random_state(model: Module | None = None) -> Iterator[None]:
    """Give torch's random states (CPU, and the CUDA device of ``model``) back as found."""
    parameter = None if model is None else next(model.parameters(), None)
    on_cuda = parameter is not None and parameter.is_cuda
    devices = [parameter.device] if parameter is not None and on_cuda else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def as_found_with_gradients(model: Module) -> Iterator[None]:
    """
    As :func:`as_found`, but with gradients inside the block; those that the parameters hold are
    given back as found.
    """
    found = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in found:
        parameter.grad = None
    try:
        with as_found(model), torch.enable_grad():
            yield
    finally:
        for parameter, gradient in found:
            parameter.grad = gradient


@contextmanager
def _evaluation_mode(modules: list[Module]) -> Iterator[None]:
    with _MODE_LOCK:
        training = [module for module in modules if module.training]
        if training:
            # attributes, not eval(): some models override train() to keep parts frozen
            try:
                for module in training:
                    module.training = False
                yield
            finally:
                for module in training:
                    module.training = True
            return
    yield


def _is_compiled(module: Module) -> bool:
    # not hasattr: that is slow where the answer is no, as it is for nearly all modules
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """
    Warn at the user's line that called this package, however deep in it, and in the user's model
    that it runs, the reason was found. Python 3.12's ``skip_file_prefixes`` would stop at the
    model.
    """
    rooms, frame = [], sys._getframe()
    while frame is not None:
        rooms.append(frame.f_globals.get("__name__", "").partition(".")[0])
        frame = frame.f_back  # type: ignore[assignment]
    caller = len(rooms) - rooms[::-1].index(_PACKAGE)
    while caller < len(rooms) and rooms[caller] in _LIBRARIES:
        caller += 1
    warnings.warn(message, category, stacklevel=caller + 1)
