"""
What a fitted first-layer detector needs to score, as plain tensors, numbers and names.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..layer.convolution import CONVOLUTIONS
from ..layer.finding import find_layer, layer_named
from ..layer.manners import unwrap, warn_user
from .fitted import MapsState

__all__ = ["STATE_VERSION", "differing_settings", "load_state", "saved_state", "settings_of"]

#: changes whenever saved states of older releases would be misread
STATE_VERSION = 4

_KEYS = {"class", "version", "settings", "layer", "layout", "tensors"}
# far more than any state takes, far less than would fill a machine
_MOST_ELEMENTS = 2**24


def settings_of(detector: MapsState) -> dict[str, Any]:
    """:return: the arguments of a detector's constructor but model and layer, by name"""
    arguments = inspect.signature(type(detector).__init__).parameters.values()
    names = [a.name for a in arguments if a.kind is a.KEYWORD_ONLY and a.name != "layer"]
    return {name: getattr(detector, name) for name in names}


def differing_settings(one: MapsState, other: MapsState) -> dict[str, tuple[Any, Any]]:
    """:return: the settings in which two detectors of a class differ, with both values"""
    own, others = settings_of(one), settings_of(other)
    return {name: (own[name], others[name]) for name in own if own[name] != others[name]}


def saved_state(detector: MapsState) -> dict[str, Any]:
    """
    :param detector: fitted detector
    :return: ``class``, ``version`` (of the format), ``settings``, ``layer`` (its name), ``layout``
        (numbers of channels and dimensions of its maps) and ``tensors``, copied to the CPU
    :raises RequiresFittingException: if it is not fitted
    :raises TypeError: if one of its settings is a function
    :raises RuntimeError: if it has no state of its own, or does not say what belongs to it
    """
    shapes, state = _shapes(detector), detector._require_state()
    known = detector._statistics if detector._saves_statistics else state
    settings = settings_of(detector)
    for name, value in settings.items():
        if any(callable(one) for one in (value if isinstance(value, tuple) else (value,))):
            raise TypeError(
                f"A {type(detector).__name__} whose {name} is a function has no state of plain "
                f"tensors. Store it with pickle, or give {name} by name."
            )
    if known is None or detector._layout is None:
        raise RuntimeError(f"This {type(detector).__name__} has no statistics. Fit it again.")
    return {
        "class": type(detector).__name__,
        "version": STATE_VERSION,
        "settings": settings,
        "layer": detector.layer_name,
        "layout": list(detector._layout),
        "tensors": {  # contiguous as safetensors wants them
            name: known[name].detach().cpu().clone(memory_format=torch.contiguous_format)
            for name in shapes
        },
    }


def load_state(detector: MapsState, state: Mapping[str, Any]) -> None:
    """
    :param detector: detector of the same class, whose settings and fit are replaced
    :param state: what :func:`saved_state` gave
    :raises TypeError: if the state is no mapping, or an entry has the wrong type
    :raises ValueError: if it belongs to another class, format, layer or number of channels, lacks
        entries or has others, or a tensor has another shape or is not finite; nothing is changed
    """
    _check_entries(detector, state)
    layout = _checked_layout(state["layout"])
    _check_layer(detector, state["layer"], layout)
    _shapes(detector)  # it has a state of its own
    try:
        loaded = type(detector)(detector.model, layer=detector.layer, **state["settings"])
    except (TypeError, ValueError) as error:
        raise type(error)(f"The settings of the state are not valid: {error}") from error
    tensors = _checked_tensors(state["tensors"], _shapes(loaded), layout)
    detector._check_loaded(tensors)
    loaded._layout = layout
    device = detector.device
    tensors = {name: t.clone() if device is None else t.to(device) for name, t in tensors.items()}
    if detector._saves_statistics:
        loaded._statistics = tensors | {"layout": torch.tensor(layout)}
        loaded._require_state()
    else:
        loaded._state = tensors
    if loaded._first_layer is not None and loaded._first_layer.name is None:
        loaded._first_layer.name = state["layer"]
    if loaded._is_of_other_weights():
        warn_user(
            f"The state was fitted with other weights than those of layer {loaded.layer_name!r}: "
            f"scores and thresholds do not hold for this model. Load the weights that it was "
            f"fitted with, or fit again."
        )
    detector.__dict__.update(loaded.__dict__)


def _shapes(detector: MapsState) -> dict[str, str]:
    if not (shapes := detector._shapes()):
        raise RuntimeError(
            f"{type(detector).__name__} has no state of its own that could be saved or loaded."
        )
    return shapes


def _check_entries(detector: MapsState, state: Any) -> None:
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be what state_dict() gave, got {type(state).__name__}.")
    if set(state) != _KEYS:
        raise ValueError(
            f"state must have the entries {sorted(_KEYS)}, as state_dict() gives them, got "
            f"{sorted(map(str, state))}."
        )
    own = type(detector).__name__
    if state["class"] != own:
        raise ValueError(f"The state is that of a {state['class']}, it does not fit a {own}.")
    if type(state["version"]) is not int or state["version"] != STATE_VERSION:
        raise ValueError(
            f"The state has version {state['version']!r}, this release reads {STATE_VERSION}. Fit "
            f"the detector again, or install the release that saved it."
        )
    if not isinstance(state["settings"], Mapping) or not isinstance(state["tensors"], Mapping):
        raise TypeError("The entries settings and tensors of the state must be mappings.")
    if set(state["settings"]) != (wanted := set(settings_of(detector))):
        raise ValueError(
            f"The settings of the state must be {sorted(wanted)}, got "
            f"{sorted(map(str, state['settings']))}."
        )


def _checked_layout(layout: Any) -> tuple[int, int]:
    whole = isinstance(layout, (list, tuple)) and all(type(number) is int for number in layout)
    if not whole or len(layout) != 2 or layout[0] < 1 or layout[1] not in (3, 4, 5):
        raise ValueError(
            f"The layout of the state must be [channels, dimensions], with 3 to 5 dimensions, got "
            f"{layout!r}."
        )
    return layout[0], layout[1]


def _check_layer(detector: MapsState, name: Any, layout: tuple[int, int]) -> None:
    if name is not None and not isinstance(name, str):
        raise TypeError(f"The layer of the state must be a name or None, got {name!r}.")
    own = detector.layer_name
    if None not in (own, name) and own != name:
        raise ValueError(
            f"The state was fitted at layer {name!r}, the detector reads {own!r}. If they are the "
            f"same layer by another name, set state['layer'] = None."
        )
    layer = detector.layer
    if not isinstance(layer, Module) and detector._first_layer is not None and name is not None:
        model = unwrap(detector._first_layer.model)
        layer = layer_named(model, find_layer(model, name))
    if isinstance(layer, CONVOLUTIONS):
        found = (layer.out_channels, 2 + len(layer.kernel_size))
        if found != layout:
            raise ValueError(
                f"The state is for maps of {layout[0]} channels and {layout[1]} dimensions, the "
                f"layer gives {found[0]} channels and {found[1]} dimensions. It was fitted on "
                f"another model."
            )


def _checked_tensors(
    tensors: Mapping[str, Any], shapes: dict[str, str], layout: tuple[int, int]
) -> dict[str, Tensor]:
    if set(tensors) != set(shapes):
        raise ValueError(
            f"The tensors of the state must be {sorted(shapes)}, got {sorted(map(str, tensors))}."
        )
    sizes = {"C": layout[0], "A": layout[1] - 2, "6": 6}
    for name, shape in shapes.items():
        tensor = tensors[name]
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_meta:
            raise TypeError(f"{name} in the state must be a tensor, got {type(tensor).__name__}.")
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise TypeError(f"{name} in the state must hold real numbers, got {tensor.dtype}.")
        if not _fits(tuple(tensor.shape), shape.split(), sizes):
            raise ValueError(
                f"{name} in the state must have the shape ({shape}), here with {sizes}, got "
                f"{tuple(tensor.shape)}."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} in the state must be finite.")
    return dict(tensors)


def _fits(shape: tuple[int, ...], names: list[str], sizes: dict[str, int]) -> bool:
    """Whether the shape is as named; names get the size that they first meet."""
    anything = names[-1:] == ["..."]
    names = names[:-1] if anything else names
    if len(shape) < len(names) or (len(shape) > len(names) and not anything):
        return False
    if torch.Size(shape).numel() > _MOST_ELEMENTS:
        return False
    return all(
        sizes.setdefault(name, size) == size for name, size in zip(names, shape, strict=False)
    )
