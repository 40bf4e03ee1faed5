"""
Take a classifier apart without knowing its code: the last linear layer, the features that go
into it, the feature maps that were pooled to them, and the convolutions in between.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Linear, Module

from ...layer.convolution import CONVOLUTIONS
from ...layer.first_layer import FirstLayer
from ...layer.manners import as_found, unwrap
from ...layer.outputs import LayerOutputs

__all__ = ["ClassifierParts", "FeatureMaps", "Penultimate", "PooledHead"]


_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU),
    *(nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
)


class Penultimate(Module):
    """Encoder: the input of a named layer, usually the last linear one; no more of it runs."""

    def __init__(self, model: Module, layer: str):
        super().__init__()
        self.model = model
        self._reader = FirstLayer(model, layer)

    def forward(self, x: Tensor) -> Tensor:
        """:return: features of shape :math:`B \\times D`, without gradient"""
        return self._reader.run(x, lambda call: call.input.flatten(1).clone())


class FeatureMaps(Module):
    """Backbone: the output of a named layer as feature maps."""

    def __init__(self, model: Module, layer: str):
        super().__init__()
        self.model = model
        self.layer = layer
        self._reader = LayerOutputs(model, [layer])

    def forward(self, x: Tensor) -> Tensor:
        """:return: maps of shape :math:`B \\times C \\times H \\times W`, without gradient"""
        return self._reader.run(x, lambda name, output: output.clone())[self.layer]


class PooledHead(Module):
    """Head: global average pooling and the last linear layer, from maps to logits."""

    def __init__(self, linear: Module):
        super().__init__()
        self.linear = linear

    @torch.no_grad()
    def forward(self, maps: Tensor) -> Tensor:
        """:return: logits of feature maps, shape :math:`B \\times K`"""
        logits: Tensor = self.linear(maps.mean(dim=(2, 3)))
        return logits


@dataclass(frozen=True)
class ClassifierParts:
    """What a run of a classifier on a few inputs tells about its architecture."""

    #: the classifier, as the user gave it
    model: Module
    #: number of logits :math:`K`
    classes: int
    #: dotted names of the convolutions that run and give 4-dimensional maps, first to last
    convolutions: tuple[str, ...]
    #: dotted names of the activation functions that run on 4-dimensional maps, first to last
    activations: tuple[str, ...]
    #: dotted name of the last linear layer that runs, if its output is the logits, else ``None``
    head_name: str | None
    #: number :math:`D` of features that the head takes, 0 without a head
    features: int
    #: dotted name of the last layer whose maps, averaged over space, are the head's input
    maps_name: str | None

    @property
    def head(self) -> Linear:
        """The last linear layer; only if there is one, see :attr:`head_name`."""
        module = unwrap(self.model).get_submodule(str(self.head_name))
        assert isinstance(module, Linear)
        return module

    @property
    def encoder(self) -> Penultimate:
        """The features that go into the head."""
        return Penultimate(self.model, str(self.head_name))

    @property
    def weight(self) -> Tensor:
        """The head's weights, shape :math:`K \\times D`."""
        return self.head.weight.detach()

    @property
    def bias(self) -> Tensor:
        """The head's biases, shape :math:`K`, zeros if it has none."""
        bias = self.head.bias
        return self.weight.new_zeros(self.classes) if bias is None else bias.detach()

    @classmethod
    def of(cls, model: Module, x: Tensor) -> "ClassifierParts":
        """
        :param model: classifier of batches like ``x``
        :param x: a few model inputs, on the device of the model
        :return: its parts
        :raises ValueError: if the model does not return logits of shape :math:`B \\times K`
        """
        with as_found(unwrap(model)):
            logits = unwrap(model)(x)
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"model must return logits of shape ({len(x)}, K) for x of shape "
                f"{tuple(x.shape)}, got {got}."
            )
        head = _find_head(model, x, logits)
        features = Penultimate(model, head)(x) if head else None
        return cls(
            model=model,
            classes=logits.shape[1],
            convolutions=_on_maps(model, x, CONVOLUTIONS),
            activations=_on_maps(model, x, _ACTIVATIONS),
            head_name=head,
            features=0 if features is None else features.shape[1],
            maps_name=None if features is None else _find_maps(model, x, features),
        )


def _find_head(model: Module, x: Tensor, logits: Tensor) -> str | None:
    named = unwrap(model).named_modules()
    names = [name for name, module in named if name and isinstance(module, Linear)]
    if not names:
        return None
    outputs = LayerOutputs(model, names).run(x, lambda name, output: output.clone())
    if not outputs:
        return None
    last = list(outputs)[-1]
    same = outputs[last].shape == logits.shape and torch.allclose(outputs[last], logits, atol=1e-4)
    return last if same else None


def _on_maps(model: Module, x: Tensor, kinds: tuple[type[Module], ...]) -> tuple[str, ...]:
    named = unwrap(model).named_modules()
    names = [name for name, module in named if name and isinstance(module, kinds)]
    if not names:
        return ()
    ranks = LayerOutputs(model, names).run(x, lambda name, output: output.dim())
    return tuple(name for name, rank in ranks.items() if rank == 4)


def _find_maps(model: Module, x: Tensor, features: Tensor) -> str | None:
    """The last module before pooling, found by comparing spatial means with the features."""
    names = [name for name, _ in unwrap(model).named_modules() if name]

    def agrees(name: str, output: Tensor) -> bool:
        if output.dim() != 4 or output.shape[2:].numel() == 1:
            return False
        means = output.mean(dim=(2, 3))
        return means.shape == features.shape and torch.allclose(means, features, atol=1e-4)

    found = LayerOutputs(model, names).run(x, agrees)
    matches = [name for name, same in found.items() if same]
    return matches[-1] if matches else None
