"""
Follows the image through a forward pass: which operations lie between it and a tensor, and which
convolutions a tensor is a sum of.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Origin", "Trace"]

# operations that move values and change none
_MOVING = {
    *("view", "_unsafe_view", "slice", "select", "t", "transpose", "permute", "clone", "detach"),
    *("alias", "expand", "unsqueeze", "squeeze", "reshape", "unbind", "split", "narrow", "copy_"),
    *("_to_copy", "split_with_sizes", "as_strided", "contiguous", "movedim", "unfold", "copy"),
    *("pixel_unshuffle", "constant_pad_nd", "lift_fresh", "empty_like", "zeros_like", "cat"),
    *("stack", "index", "index_select", "flip", "_reshape_alias", "repeat", "lift_fresh_copy"),
}
# those that are affine in each of their operands
_AFFINE = {
    *("add", "sub", "rsub", "mul", "div", "add_", "sub_", "mul_", "div_", "neg", "sum", "mean"),
    *("convolution", "mm", "addmm", "bmm", "linear", "native_batch_norm", "cudnn_batch_norm"),
    *("_native_batch_norm_legit_no_training", "_batch_norm_with_update", "avg_pool2d"),
    *("_native_batch_norm_legit", "_adaptive_avg_pool2d", "upsample_bilinear2d", "batch_norm"),
    *("mkldnn_convolution", "_convolution", "upsample_nearest2d", "einsum", "native_dropout"),
}
# those that are affine in one operand only as long as the other does not depend on the image
_PRODUCTS = {"mul", "mul_", "div", "div_", "mm", "bmm", "addmm", "convolution", "linear", "einsum"}


@dataclass(frozen=True)
class Origin:
    """How a tensor came from the image."""

    #: names of the operations on the way that change values, each once
    operations: tuple[str, ...] = ()
    #: names of the watched layers that it depends on
    after: frozenset[str] = frozenset()
    #: names of those whose outputs it is an affine function of
    sums: frozenset[str] = frozenset()


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """
    Follows what a marked tensor becomes, by its storage, so that views and changes in place are
    followed too. Keeps no values.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, tuple[StorageWeakRef, Origin]] = {}
        #: groups of watched layers whose outputs came together in one sum
        self.joined: set[frozenset[str]] = set()

    def mark(self, tensor: Tensor, origin: Origin) -> None:
        """Follow a tensor from now on."""
        reference = _storage(tensor)
        if reference is not None:
            self._known[reference.cdata] = (reference, origin)

    def of(self, tensor: Any) -> Origin | None:
        """:return: where a tensor came from; ``None`` if it does not depend on what was marked"""
        reference = _storage(tensor)
        return None if reference is None else self._known.get(reference.cdata, (None, None))[1]

    def passed(self, name: str, taken: Tensor, output: Any) -> None:
        """A watched layer ran: its output is followed under this name from now on."""
        before = self.of(taken) or Origin()
        if isinstance(output, Tensor):
            after = before.after | {name}
            self.mark(output, Origin((*before.operations, name), after, before.sums | {name}))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        origins = [self.of(leaf) for leaf in tree_leaves((args, kwargs))]
        output = func(*args, **(kwargs or {}))
        known = [origin for origin in origins if origin is not None]
        if known:
            origin = self._next(func.overloadpacket.__name__, known)
            for leaf in tree_leaves(output):
                if isinstance(leaf, Tensor):
                    self.mark(leaf, origin)
        return output

    def _next(self, operation: str, known: list[Origin]) -> Origin:
        operations = dict.fromkeys(name for origin in known for name in origin.operations)
        if operation not in _MOVING:
            operations[operation] = None
        after = _union(origin.after for origin in known)
        affine = operation in _MOVING or operation in _AFFINE
        if operation in _PRODUCTS and len(known) > 1:
            affine = False
        sums = _union(origin.sums for origin in known) if affine else frozenset()
        if len(sums) > 1:
            self.joined.add(sums)
        return Origin(tuple(operations), after, sums)


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _storage(tensor: Any) -> StorageWeakRef | None:
    if not isinstance(tensor, Tensor):
        return None
    try:
        return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    except (NotImplementedError, RuntimeError):  # no memory of its own, as some subclasses
        return None


def is_followed(x: Tensor) -> bool:
    """:return: whether a tensor has memory by which it can be followed"""
    return x.layout == torch.strided and _storage(x) is not None
