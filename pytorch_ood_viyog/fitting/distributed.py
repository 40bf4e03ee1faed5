"""
Statistics of all processes of a ``torch.distributed`` group, brought together.
"""

from collections.abc import Callable

import torch
from torch import Tensor, distributed

__all__ = ["merged_over_ranks"]

Found = tuple[str | None, dict[str, Tensor]]


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
    own: Found | None = None
    error: Exception | None = None
    try:
        own = measure()
    except Exception as caught:
        error = caught
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
    return total if own is None else _to(total, own[1]["count"].device)


def _to(found: Found | None, device: torch.device | str) -> Found | None:
    if found is None:
        return None
    return found[0], {name: tensor.to(device) for name, tensor in found[1].items()}
