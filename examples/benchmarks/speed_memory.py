"""
Peak memory of a call, from the allocations that torch makes.
"""

import os
from collections.abc import Callable

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch: the profiler talks

import torch
from torch.profiler import ProfilerActivity, profile


def peak_memory(run: Callable[[], object], device: str) -> int:
    """
    :param run: what is measured; should have run before, as a first run makes more
    :param device: ``"cpu"`` or ``"cuda"``
    :return: bytes that were allocated at once beyond those at the start
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    changes = [event for event in events if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
