"""
Hooks that live for one call and act for one thread alone.
"""

import threading
from collections.abc import Callable
from typing import Any

from torch.nn import Module
from torch.utils.hooks import RemovableHandle
from typing_extensions import Self

__all__ = ["LayerReached", "PassHooks"]

# torch numbers its hook handles without a lock: two threads that register at the same moment
# may get the same number, and one hook would be lost
_REGISTER_LOCK = threading.Lock()


class LayerReached(BaseException):
    """Ends a forward pass; no ``Exception``, so that the model's own handlers let it through."""


class PassHooks:
    """
    Hooks that live inside a ``with`` block and act for the thread that made them alone: a forward
    pass of the same model in another thread neither triggers them nor is changed by them.

    .. code-block:: python

        with PassHooks() as hooks:
            hooks.before(model.fc, lambda layer, args, kwargs: seen.append(args[0]))
            model(x)
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def before(self, module: Module, hook: Callable[..., Any]) -> None:
        """
        Call ``hook(module, args, kwargs)`` before ``module`` runs; it may return other arguments.
        """
        with _REGISTER_LOCK:
            handle = module.register_forward_pre_hook(self._own(hook), with_kwargs=True)
        self._handles.append(handle)

    def after(self, module: Module, hook: Callable[..., Any]) -> None:
        """
        Call ``hook(module, args, kwargs, output)`` after ``module`` ran and before the user's
        forward hooks, which may change the output. What it returns takes the place of the output,
        unless that is ``None``.
        """
        with _REGISTER_LOCK:
            handle = module.register_forward_hook(self._own(hook), with_kwargs=True, prepend=True)
        self._handles.append(handle)

    def _own(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        # any number of arguments: while torch registers or removes a hook in several steps,
        # another thread may see it without the mark that it takes keyword arguments
        def own(*arguments: Any) -> Any:
            return hook(*arguments) if threading.get_ident() == self._thread else None

        return own
