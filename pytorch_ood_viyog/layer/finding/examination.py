"""
Find out, once per fit, which layer is the first, how often it runs, and what it sees of the image.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Module

from ..hooks import LayerReached, PassHooks
from ..linear.impulse_response import impulse_response
from ..manners import as_found
from .by_name import convolutions
from .composed import ARROW, Stem, is_stem, names_in, runs_first
from .relation import Path, is_resized, probes, rearranged
from .runs import Runs, runs_unclear
from .watch import Call, Watch, first_tensor

__all__ = ["Found", "examine", "in_order"]

# samples that are enough to tell
_SAMPLES = 4
# layers that are compared with the image where none takes it as it is
_CANDIDATES = 4


@dataclass(frozen=True)
class Found:
    """What was found out about the layer that is read."""

    #: its name
    name: str
    runs: Runs
    path: Path


def examine(model: Module, x: Tensor, name: str | None, *, whole: bool = False) -> Found | None:
    """
    Run a model once on a few samples, and a few times more if what its layer takes is not simply
    the image.

    :param model: the unwrapped model
    :param x: batch of model inputs
    :param name: name of the layer, if it is known
    :param whole: whether the whole batch runs
    :return: what was found; ``None`` if no layer runs. What the model raises is left for the pass
        that reads it.
    :raises RuntimeError: if a sample has no whole number of the layer's rows
    """
    # which samples are not finite is said by the pass that reads them
    x = (x if whole else x[:_SAMPLES]).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    layers: Mapping[str, Module] = convolutions(model)
    if name is not None:
        hooked = runs_first(name)
        layers = {hooked: model.get_submodule(hooked)}
    with as_found(model), Watch(model, layers, x) as watch:  # noqa: SIM117
        with contextlib.suppress(LayerReached, Exception):
            model(x)
    if not watch.calls:
        return None
    leader = next((call for call in watch.calls if call.gains is not None), None)
    if leader is None:
        return _compared(model, x, name, watch)
    return _found(watch, leader, name, "image", len(x), gains=leader.gains or ())


def _found(
    watch: Watch,
    call: Call,
    name: str | None,
    kind: Literal["image", "pixels", "resized", "other"],
    samples: int,
    **what: Any,
) -> Found:
    own = name or watch.layer_of(call)
    return Found(own, _runs(watch, call, own, samples), Path(kind, call.origin.operations, **what))


def _runs(watch: Watch, leader: Call, name: str, samples: int) -> Runs:
    """Of the layer that a run belongs to; runs on its own output do not count."""
    own = [call for call in watch.calls if call.name == leader.name]
    if leader.gains is not None and leader.rows == samples and own[0] is leader:
        return Runs(adjacent=True)
    eligible = [i for i, call in enumerate(own) if leader.name not in call.origin.after]
    rows = sum(own[i].rows for i in eligible)
    if samples == 0 or rows % samples or rows == 0:
        raise RuntimeError(runs_unclear(name, rows, samples, len(eligible)))
    calls = None if len(eligible) == len(own) else tuple(eligible)
    return Runs(rows // samples, calls=calls)


def _compared(model: Module, x: Tensor, name: str | None, watch: Watch) -> Found:
    """Where no layer takes the image as it is: probe what the first ones take."""
    first = {call.name: call for call in reversed(watch.calls)}
    early = {call.name for call in watch.calls if call.taken is not None}
    order = dict.fromkeys(call.name for call in watch.calls if call.name in early)
    candidates = [*order][:_CANDIDATES] or [watch.calls[0].name]
    layers = {each: model.get_submodule(each) for each in candidates}
    base = _inputs_of(model, layers, x)
    changed = [_inputs_of(model, layers, other) for other in probes(x)]
    why: dict[str, str] = {}
    repeating: list[str] = []
    for each in candidates:
        direct, once, why[each] = _rearranged(base[each], [c[each] for c in changed], x)
        if direct and once:
            return _found(watch, first[each], name, "pixels", len(x))
        if direct:
            repeating.append(each)
    if name is None or is_stem(name):  # else the user, or a saved state, means this layer alone
        for each in candidates:
            own = name or watch.layer_of(first[each])
            stem = own if is_stem(own) else ARROW + names_in(own)[0]
            once = len(base[each]) == 1 and len(base[each][0]) == len(x)
            if once and _is_linear(model, stem, x):
                return Found(stem, Runs(), Path("linear", first[each].origin.operations))
    for each in repeating:
        return _found(watch, first[each], name, "pixels", len(x))
    for each in candidates:
        if base[each] and len(base[each][0]) == len(x) and is_resized(base[each][0], x):
            return _found(watch, first[each], name, "resized", len(x))
    call = watch.calls[0]
    return _found(watch, call, name, "other", len(x), why=why.get(call.name, ""))


def _is_linear(model: Module, name: str, x: Tensor) -> bool:
    """Whether a stem is one linear function of these inputs."""
    if not x.is_floating_point():
        return False
    try:
        impulse_response(Stem(model, name), x[:2])
    except Exception:
        return False
    return True


def _rearranged(
    base: list[Tensor], changed: list[list[Tensor]], x: Tensor
) -> tuple[bool, bool, str]:
    """Of all runs that have the shape of the first."""
    if not base or any(len(c) != len(base) for c in changed) or base[0].dim() < 2:
        return False, False, "it runs in another way when the image changes a little"
    alike = [i for i, t in enumerate(base) if t.shape[1:] == base[0].shape[1:]]
    rows = [torch.cat([run[i] for i in alike]) for run in (base, *changed)]
    return rearranged(rows[0], rows[1:], x[0].numel())


def _inputs_of(model: Module, layers: Mapping[str, Module], x: Tensor) -> dict[str, list[Tensor]]:
    """What each of the layers takes, one tensor a run."""
    taken: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Callable[..., None]:
        def hook(layer: Module, args: Any, kwargs: dict[str, Any]) -> None:
            tensor = first_tensor(args, kwargs)
            if tensor is not None:
                taken[name].append(tensor.detach().clone())

        return hook

    with as_found(model), PassHooks() as hooks:
        for name, layer in layers.items():
            hooks.before(layer, keep(name))
        with contextlib.suppress(Exception):
            model(x)
    return taken


# -- the order of rows ------------------------------------------------------------------------


def in_order(model: Module, x: Tensor, name: str, runs: Runs) -> Runs:
    """
    Change samples by the binary digits of their numbers, one digit a run, and read from each row
    whose it is.

    :param model: the unwrapped model
    :param x: two samples or more
    :param name: name of the layer
    :param runs: what is known of its runs
    :return: the same, with the order of rows
    :raises RuntimeError: if rows belong to samples in no order that is known
    """
    hooked = runs_first(name)
    layers = {hooked: model.get_submodule(hooked)}

    def taken(inputs: Tensor) -> list[Tensor]:
        found = _inputs_of(model, layers, inputs)[hooked]
        return [t for i, t in enumerate(found) if runs.calls is None or i in runs.calls]

    before = taken(x)
    rows = sum(len(part) for part in before)
    numbers = torch.arange(1, len(x) + 1, device=x.device)  # 0 is a row of nobody
    owners = torch.zeros(rows, dtype=torch.long)
    for digit in range(len(x).bit_length()):
        after = taken(_with_others(x, (numbers >> digit) % 2 == 1))
        owners[_rows_that_differ(before, after)] += 1 << digit
    for adjacent in (True, False):
        found = replace(runs, adjacent=adjacent, in_order=True)
        if torch.equal(found.rows(len(x)).spread(numbers.cpu()), owners):
            return found
    raise RuntimeError(runs_unclear(name, rows, len(x), len(before)))


def _with_others(x: Tensor, which: Tensor) -> Tensor:
    other = x.flip(-1) + 1 if x.is_floating_point() else 255 - x
    return torch.where(which.view(-1, *(1,) * (x.dim() - 1)), other, x)


def _rows_that_differ(before: list[Tensor], after: list[Tensor]) -> list[int]:
    """Numbers of the rows that differ by more than a thousandth of the largest difference."""
    sizes = [
        (one.double() - other.double()).flatten(1).abs().amax(dim=1)
        for one, other in zip(before, after, strict=False)
        if one.shape == other.shape
    ]
    if not sizes:
        return []
    changes = torch.cat(sizes)
    return (changes > 1e-3 * changes.max()).nonzero().flatten().tolist()
