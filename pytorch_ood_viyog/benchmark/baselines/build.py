"""
The detectors of pytorch-ood for a plain classifier, each ready to be fitted, from one table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_ood import detector as ood
from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module, Unflatten
from torch.nn import Sequential as Chain
from typing_extensions import Self

from ...layer.manners import unwrap, warn_user
from ...layer.outputs import LayerOutputs, evenly_spread
from .classifier_parts import ClassifierParts, FeatureMaps, PooledHead

__all__ = ["BASELINES", "Baseline", "Gram", "MultiMahalanobis", "baseline_detectors"]

# layers that detectors of several layers read, evenly spread over the depth of the network
_SEVERAL = 4


class MultiMahalanobis(ood.MultiMahalanobis):  # type: ignore[misc]
    """
    pytorch-ood's ``MultiMahalanobis`` on named layers of any network, read in one forward pass;
    the original takes a chain of modules and runs it anew for each layer.
    """

    def __init__(self, model: Module, layers: Sequence[str]):
        """:param layers: dotted names of layers with 4-dimensional output"""
        super().__init__([model] * len(layers))  # one weight a layer; the model for its device
        self.layers = list(layers)
        self._outputs = LayerOutputs(model, layers)

    def fit(self, data_loader: Any) -> Self:
        """:return: the detector, fitted to batches of ID samples of all classes"""
        batches = [(self._spatial_means(x.to(self.device)), y) for x, y in data_loader]
        layers = zip(*(means for means, _ in batches), strict=True)
        self.fit_structured(
            [torch.cat(layer) for layer in layers], torch.cat([y for _, y in batches])
        )
        return self

    def predict(self, x: Tensor) -> Tensor:
        """:return: outlier scores of shape :math:`B`"""
        scores: Tensor = self.predict_structured(self._spatial_means(x.to(self.device)))
        return scores

    def _spatial_means(self, x: Tensor) -> list[Tensor]:
        means = self._outputs.run(x, lambda name, output: output.mean(dim=(2, 3)))
        return [means[name] for name in self.layers]


class Gram(ood.Gram):  # type: ignore[misc]
    """
    pytorch-ood's ``Gram`` on named layers of any network; the original takes a chain of modules.
    """

    def __init__(self, model: Module, layers: Sequence[str], num_classes: int):
        """:param layers: dotted names of layers with 4-dimensional output"""
        super().__init__(model, [model] * len(layers), num_classes)
        self.layers = list(layers)
        self._outputs = LayerOutputs(model, layers)

    @torch.no_grad()
    def _create_feature_list(self, data: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = self._outputs.run(data, lambda name, output: output.clone())
        return self.head(data), [maps[name] for name in self.layers]


@dataclass(frozen=True)
class Baseline:
    """A line of the table: what a detector needs and how it is built from a classifier's parts."""

    #: ``"logits"``, ``"head"`` (a last linear layer) or ``"convolutions"``
    needs: str
    build: Callable[[ClassifierParts], Detector]


def _maps(parts: ClassifierParts) -> tuple[Module, Module]:
    """Backbone and head; pooled features as 1 × 1 maps where pooling is no global average."""
    if parts.maps_name is None:
        as_maps = Unflatten(1, (parts.features, 1, 1))
        return Chain(parts.encoder, as_maps), PooledHead(parts.head)
    return FeatureMaps(parts.model, parts.maps_name), PooledHead(parts.head)


def _layers(parts: ClassifierParts) -> list[str]:
    # activations first: raw maps of a convolution have a rank below the number of channels
    # where a kernel has fewer weights than that, and Mahalanobis distances then break down
    return evenly_spread(parts.activations or parts.convolutions, _SEVERAL)


def _nacue(parts: ClassifierParts) -> Detector:
    modules = [unwrap(parts.model).get_submodule(name) for name in _layers(parts)]
    # z ∂KL/∂z of a spatially pooled neuron, as in the paper, is the sum over positions; the mean,
    # pytorch-ood's default for maps, is smaller by their number and falls into one bin
    return ood.NACUE(unwrap(parts.model), modules, feature_reduce=_spatial_sum)


def _spatial_sum(maps: Tensor) -> Tensor:
    return maps.flatten(2).sum(dim=2)


def _grad_norm(parts: ClassifierParts) -> Detector:
    last_weight = f"{parts.head_name}.weight"
    return ood.GradNorm(unwrap(parts.model), param_filter=lambda name: name == last_weight)


#: The table. Parameters are pytorch-ood's defaults, which are those of the papers; where it has
#: none, the value stands here.
BASELINES: dict[str, Baseline] = {
    "MSP": Baseline("logits", lambda p: ood.MaxSoftmax(p.model)),
    "MaxLogit": Baseline("logits", lambda p: ood.MaxLogit(p.model)),
    "Energy": Baseline("logits", lambda p: ood.EnergyBased(p.model)),
    "Entropy": Baseline("logits", lambda p: ood.Entropy(p.model)),
    "GEN": Baseline("logits", lambda p: ood.GEN(p.model, M=min(100, p.classes))),
    "KLMatching": Baseline("logits", lambda p: ood.KLMatching(p.model)),
    "ODIN": Baseline("logits", lambda p: ood.ODIN(p.model)),
    "Mahalanobis": Baseline("head", lambda p: ood.Mahalanobis(p.encoder)),
    "MultiMahalanobis": Baseline("convolutions", lambda p: MultiMahalanobis(p.model, _layers(p))),
    "RMD": Baseline("head", lambda p: ood.RMD(p.encoder)),
    "kNN": Baseline("head", lambda p: ood.KNN(p.encoder)),
    "ViM": Baseline("head", lambda p: ood.ViM(p.encoder, p.features // 2, p.weight, p.bias)),
    "SHE": Baseline("head", lambda p: ood.SHE(p.encoder, p.head)),
    "ASH": Baseline("head", lambda p: ood.ASH(*_maps(p))),
    "ReAct": Baseline("head", lambda p: ood.ReAct(*_maps(p))),
    "DICE": Baseline("head", lambda p: ood.DICE(p.encoder, p.weight, p.bias, p=0.9)),
    "NACUE": Baseline("convolutions", _nacue),
    "GradNorm": Baseline("head", _grad_norm),
    "Gram": Baseline("convolutions", lambda p: Gram(p.model, _layers(p), p.classes)),
    "NNGuide": Baseline("head", lambda p: ood.NNGuide(p.encoder, p.head)),
}


def baseline_detectors(
    model: Module, x: Tensor, names: Sequence[str] | None = None
) -> dict[str, Detector]:
    """
    Build pytorch-ood's detectors for a classifier of any architecture. They share one model; none
    is fitted yet.

    The last linear layer that runs is the head, provided that its output is the logits; its
    input are the penultimate features. ASH and ReAct read the last maps whose spatial mean equals
    these features, and the features as 1 × 1 maps where there are none (pooling is no global
    average). MultiMahalanobis, NACUE and Gram read four activations (convolutions where the
    activations are no modules), evenly spread from the first to the last. The model stays in the
    mode it is in; :class:`~pytorch_ood_viyog.benchmark.benchmark.AdversarialBenchmark` runs them
    in evaluation mode.

    :param model: classifier that returns logits
    :param x: a few model inputs, two suffice, on the device of the model
    :param names: names from ``BASELINES``; default is all that the architecture allows
    :return: detectors by name, in the order of the table
    :raises ValueError: if a name is unknown, the model does not return logits, or a detector that
        was asked for by name needs what the model does not have
    """
    unknown = sorted(set(names or ()) - set(BASELINES))
    if unknown:
        raise ValueError(f"names must be among {list(BASELINES)}, got {unknown}.")
    parts = ClassifierParts.of(model, x)
    lacking = _lacking(parts)
    wanted = [name for name in BASELINES if names is None or name in names]
    left_out = {name: lacking[b] for name in wanted if (b := BASELINES[name].needs) in lacking}
    if left_out:
        message = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        if names is not None:
            raise ValueError(f"{type(unwrap(model)).__name__} cannot provide for {message}.")
        warn_user(f"Baselines left out. {message}.")
    return {name: BASELINES[name].build(parts) for name in wanted if name not in left_out}


def _lacking(parts: ClassifierParts) -> dict[str, str]:
    """What the architecture cannot provide, with the reason."""
    lacking = {}
    if parts.head_name is None:
        lacking["head"] = "needs a last torch.nn.Linear whose output is the logits"
    if not parts.convolutions:
        lacking["convolutions"] = "needs convolutions with 4-dimensional output"
    return lacking
