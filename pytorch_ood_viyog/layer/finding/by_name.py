"""
Find a layer in a model by name or by what it is.
"""

import torch
from torch.nn import Linear, Module

from ..convolution import CONVOLUTIONS, Convolution
from ..manners import unwrap
from .composed import ARROW, SEPARATOR, Branches, Stem, is_stem, last_of, names_in

__all__ = [
    "check_hookable",
    "convolutions",
    "find_layer",
    "known_convolutions",
    "layer_named",
    "no_convolution",
]


# what holds a module inside of what torch.compile, FSDP or checkpointing wrapped around it
_WRAPPED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def convolutions(model: Module) -> dict[str, Convolution]:
    """:return: all ``Conv1d``, ``Conv2d`` and ``Conv3d`` by dotted name, as registered"""
    return {name: m for name, m in model.named_modules() if isinstance(m, CONVOLUTIONS)}


def find_layer(model: Module, layer: str | Module) -> str:
    """
    :param model: the unwrapped model
    :param layer: name (wrappers' prefixes allowed) or module of a layer, or names of several
        convolutions that take the same tensor, the first to run first: ``"stem.a + stem.b"``
    :return: its dotted name
    :raises ValueError: if the model does not contain it
    """
    names: dict[str, Module] = {name: module for name, module in model.named_modules() if name}
    if isinstance(layer, (Branches, Stem)):
        return layer.name
    if isinstance(layer, str) and is_stem(layer):
        return ARROW + find_layer(model, last_of(layer))
    if isinstance(layer, str) and len(names_in(layer)) > 1:
        return SEPARATOR.join(find_layer(model, name) for name in names_in(layer))
    if isinstance(layer, Module):
        inner = unwrap(layer)
        for name, module in names.items():
            if module is inner:
                return name
        wanted = f"the module {type(layer).__name__} given as layer"
    else:
        known = {_bare(name): name for name in names}  # of a wrapper, what it wraps comes later
        bare = _bare(layer)
        while bare.startswith("module.") and bare not in known:
            bare = bare.partition(".")[2]
        if bare in known:
            return known[bare]
        wanted = f"a layer named {layer!r}"
    raise ValueError(
        f"{type(model).__name__} does not contain {wanted}. {known_convolutions(model)}"
    )


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPED)


def layer_named(model: Module, name: str) -> Module:
    """:return: the layer, the :class:`Branches`, or the :class:`Stem` of a name"""
    if is_stem(name):
        return Stem(model, name)
    layers = [model.get_submodule(part) for part in names_in(name)]
    return layers[0] if len(layers) == 1 else Branches(name, layers)


def known_convolutions(model: Module) -> str:
    """:return: a sentence with the names of the model's convolutions, for messages"""
    names = list(convolutions(model))
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"Its convolutions are: {shown or 'none'}."


def no_convolution(model: Module) -> str:
    """:return: the message for a model that has no convolution"""
    message = (
        f"No convolution found: {type(model).__name__} has no Conv1d, Conv2d or Conv3d module. "
        f"Name the layer to read by layer='...'"
    )
    linear = next((n for n, m in model.named_modules() if isinstance(m, Linear)), None)
    if linear is None:
        return f"{message}."
    return (
        f"{message}; one that embeds patches, with the cutting into patches before it, by "
        f"layer='{ARROW}{linear}', where the model takes images. Where it takes patches, give a "
        f"module around it that takes images."
    )


def check_hookable(model: Module) -> None:
    """:raises TypeError: if the unwrapped model's modules do not run hooks"""
    exported = isinstance(model, torch.fx.GraphModule) and any(
        isinstance(node.target, torch._ops.OpOverload) for node in model.graph.nodes
    )
    if exported or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"{type(model).__name__} is a scripted, traced or exported model, in which hooks do "
            f"not run: its layers cannot be read. Give the eager model that it was made from."
        )
