"""
Find out, once per fit, which layer is the first, how often it runs, and what it sees of the image.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..hooks import PassHooks
from ..manners import as_found
from .branches import names_in, runs_first
from .by_name import convolutions
from .reached import LayerReached
from .relation import Path, Probes, is_resized, rearranged
from .runs import Runs
from .stem import ARROW, is_stem
from .watch import Call, Watch, first_tensor

__all__ = ["Found", "examine", "in_order", "runs_unclear"]

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


def examine(
    model: Module,
    x: Tensor,
    name: str | None,
    is_linear: Callable[[str, Tensor], bool],
    *,
    whole: bool = False,
) -> Found | None:
    """
    Run a model once on a few samples, and a few times more if what its layer takes is not simply
    the image.

    :param model: the unwrapped model
    :param x: batch of model inputs
    :param name: name of the layer, if it is known
    :param is_linear: tells whether a layer of this name is one linear function of these inputs
    :param whole: whether the whole batch runs
    :return: what was found; ``None`` if no layer runs. What the model raises is left for the pass
        that reads it.
    :raises RuntimeError: if a sample has no whole number of the layer's rows
    """
    x = x if whole else x[:_SAMPLES]
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
    if leader is not None:
        own = name or watch.layer_of(leader)
        runs = _runs(watch, leader, own, len(x))
        path = Path("image", _shown(leader), leader.gains or ())
        return Found(own, runs, path)
    return _compared(model, x, name, watch, is_linear)


def inputs_of(model: Module, layers: Mapping[str, Module], x: Tensor) -> dict[str, list[Tensor]]:
    """
    :param model: the unwrapped model
    :param layers: layers by name
    :param x: batch of model inputs
    :return: what each of them takes, one tensor a run
    """
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
        found = inputs_of(model, layers, inputs)[hooked]
        return [t for i, t in enumerate(found) if runs.calls is None or i in runs.calls]

    before = taken(x)
    rows = sum(len(part) for part in before)
    numbers = torch.arange(1, len(x) + 1, device=x.device)  # 0 is a row of nobody
    owners = torch.zeros(rows, dtype=torch.long)
    for digit in range(len(x).bit_length()):
        after = taken(_with_others(x, (numbers >> digit) % 2 == 1))
        owners[_rows_that_differ(before, after)] += 1 << digit
    found = runs.owned(owners - 1, len(x))
    if found is None:
        raise RuntimeError(runs_unclear(name, rows, len(x), len(before)))
    return found


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


def _shown(call: Call) -> tuple[str, ...]:
    return call.origin.operations


def _runs(watch: Watch, leader: Call, name: str, samples: int) -> Runs:
    """Of the layer that a run belongs to; runs on its own output do not count."""
    hooked = leader.name
    own = [call for call in watch.calls if call.name == hooked]
    if leader.gains is not None and leader.rows == samples and own and own[0] is leader:
        return Runs(adjacent=True)
    eligible = [i for i, call in enumerate(own) if hooked not in call.origin.after]
    rows = sum(own[i].rows for i in eligible)
    if samples == 0 or rows % samples or rows == 0:
        raise RuntimeError(runs_unclear(name, rows, samples, len(eligible)))
    calls = None if len(eligible) == len(own) else tuple(eligible)
    return Runs(rows // samples, calls=calls)


def runs_unclear(name: str, rows: int, samples: int, calls: int) -> str:
    """:return: the message for a layer whose rows belong to no sample"""
    times = "once" if calls == 1 else f"{calls} times"
    return (
        f"Layer {name!r} must run on each sample of a batch, on one row or on as many for each, "
        f"in order, but it ran on {rows} of {samples} samples, {times}. Name another layer by "
        f"layer='...', or give the part of the model that takes single images."
    )


def _compared(
    model: Module,
    x: Tensor,
    name: str | None,
    watch: Watch,
    is_linear: Callable[[str, Tensor], bool],
) -> Found:
    """Where no layer takes the image as it is: probe what the first ones take."""
    early = {c.name: c for c in reversed(watch.calls) if c.values is not None and not c.gains}
    order = [c.name for c in watch.calls if c.name in early]
    first = watch.calls[0]
    candidates = list(dict.fromkeys(order))[:_CANDIDATES] or [first.name]
    layers = {n: model.get_submodule(n) for n in candidates}
    probes = Probes.of(x)
    base = inputs_of(model, layers, x)
    changed = [inputs_of(model, layers, each) for each in probes.changed]
    why: dict[str, str] = {}
    repeating: list[str] = []
    for each in candidates:
        direct, once, why[each] = _rearranged(base[each], [c[each] for c in changed], x)
        if direct and once:
            return _found(watch, _first(watch, each), name, "pixels", len(x))
        if direct:
            repeating.append(each)
    for each in candidates:
        own = name or watch.layer_of(_first(watch, each))
        whole = own if is_stem(own) else ARROW + names_in(own)[0]
        if name is not None and not is_stem(name):
            break  # the user, or a saved state, means this layer alone
        if len(base[each]) == 1 and len(base[each][0]) == len(x) and is_linear(whole, x):
            path = Path("linear", _shown(_first(watch, each)))
            return Found(whole, Runs(), path)
    for each in repeating:
        return _found(watch, _first(watch, each), name, "pixels", len(x))
    for each in candidates:
        if base[each] and len(base[each][0]) == len(x) and is_resized(base[each][0], x):
            return _found(watch, _first(watch, each), name, "resized", len(x))
    return _found(watch, first, name, "other", len(x), why.get(first.name, ""))


def _rearranged(
    base: list[Tensor], changed: list[list[Tensor]], x: Tensor
) -> tuple[bool, bool, str]:
    """Of all runs that have the shape of the first."""
    alike = [i for i, t in enumerate(base) if t.shape[1:] == base[0].shape[1:]]
    if not base or any(len(c) != len(base) for c in changed) or base[0].dim() < 2:
        return False, False, "it runs in another way when the image changes a little"
    rows = [torch.cat([run[i] for i in alike]) for run in (base, *changed)]
    values = x[0].numel()
    return rearranged(rows[0], rows[1:], values)


def _first(watch: Watch, name: str) -> Call:
    return next(call for call in watch.calls if call.name == name)


def _found(
    watch: Watch, call: Call, name: str | None, kind: Any, samples: int, why: str = ""
) -> Found:
    own = name or watch.layer_of(call)
    return Found(own, _runs(watch, call, own, samples), Path(kind, _shown(call), why=why))
