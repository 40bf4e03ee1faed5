"""
Statistics of all processes of a ``torch.distributed`` group, brought together.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, distributed

__all__ = ["merged_over_ranks"]

Found = tuple[str | None, dict[str, Tensor]]
T = TypeVar("T")


def merged_over_ranks(
    measure: Callable[[], Found | None], merge: Callable[[Found, Found], Found]
) -> Found | None:
    """
    What all ranks found, merged in the order of the ranks, so that all of them get the same. One
    other rank's result is in memory at a time. Without a process group, or with one of a single
    process, this is ``measure()``.

    :param measure: gives what this rank found, a name and tensors, or ``None`` for nothing
    :param merge: merges what two ranks found
    :return: the merged result; ``None`` if no rank found anything
    :raises RuntimeError: if measuring failed on another rank, naming it
    :raises Exception: what measuring raised on this rank, after the others were told
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return measure()
    own, error = _attempt(measure)
    device = None if own is None else own[1]["count"].device
    total: Found | None = None
    failures = []
    for rank in range(distributed.get_world_size()):
        message = [(_to(own, "cpu"), None if error is None else repr(error))]
        distributed.broadcast_object_list(message, src=rank)
        found, failure = message[0]
        if failure is not None:
            failures.append(f"rank {rank}: {failure}")
        elif found is not None:
            total = found if total is None else merge(total, found)
    if error is not None:
        raise error
    if failures:
        raise RuntimeError(f"Fitting failed on other processes. {'; '.join(failures)}")
    return _to(total, device)


def _attempt(measure: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return measure(), None
    except Exception as error:
        return None, error


def _to(found: Found | None, device: torch.device | str | None) -> Found | None:
    if found is None or device is None:
        return found
    return found[0], {name: tensor.to(device) for name, tensor in found[1].items()}
