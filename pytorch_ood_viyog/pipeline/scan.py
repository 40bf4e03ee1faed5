"""
layer_scan: which layer of a network tells two populations apart.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from pytorch_ood.metrics.functional import auroc
from torch import Tensor
from torch.nn import Module
from tqdm import tqdm

from ..detectors.residue import ViyogResidue
from ..detectors.tv import total_variation
from ..detectors.viyog import infinity_norm
from ..layer.batches import split_batch
from ..layer.checks import check_finite, check_input
from ..layer.convolution import CONVOLUTIONS
from ..layer.manners import same_random_state, unwrap
from ..layer.outputs import LayerOutputs

__all__ = ["LAYER_STATISTICS", "energy", "layer_scan"]

#: from the name of a layer and its output to one number per sample, or ``None`` if it has none
LayerStatistic = Callable[[str, Tensor], Tensor | None]

#: what :func:`layer_scan` can measure
LAYER_STATISTICS = ("energy", "linf", "tv", "residue")

# ID samples that the directions of a layer are found from, which bounds the memory
_RESIDUE_SAMPLES = 64


def energy(output: Tensor) -> Tensor:
    """
    :param output: output :math:`a` of a layer, first dimension :math:`B`
    :return: :math:`-\\log \\sum_i e^{a_i}` over all activations of a sample, shape :math:`B`
    """
    return -torch.logsumexp(output.flatten(1).double(), dim=1)


def _mean_total_variation(output: Tensor) -> Tensor | None:
    return total_variation(output).mean(dim=1).double() if output.dim() > 2 else None


def layer_scan(
    model: Module,
    loader_a: Iterable[Any],
    loader_b: Iterable[Any],
    statistic: str = "energy",
    *,
    layers: Sequence[str] | None = None,
    fit_loader: Iterable[Any] | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """
    How well each layer tells population B from population A, by one number per sample and layer:

    - ``"energy"``: :math:`-\\log \\sum_i e^{a_i}` over all activations of the layer (LIR)
    - ``"linf"``: :math:`\\max |a|`
    - ``"tv"``: total variation (:func:`~pytorch_ood_viyog.detectors.tv.total_variation`), mean
      over channels; only layers with feature maps
    - ``"residue"``: the score of :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue` at
      the layer; only convolutions, and fitted to ID data first

    Any two populations can be compared: ID and OOD, OOD and ADV. One forward pass serves all
    layers, and of their outputs one number per sample is kept.

    .. rubric:: Examples

    .. code-block:: python

        rows = layer_scan(model, ood_loader, adv_loader)
        best = max(rows, key=lambda row: row["Folded"])
        plot_layer_scan(rows, "layers.png")

    :param model: any model; it runs in evaluation mode
    :param loader_a: population A, yields tensors, ``(x, y)`` or ``(x, y, ...)``
    :param loader_b: population B
    :param statistic: one of ``LAYER_STATISTICS``
    :param layers: dotted names; default is all convolutions, linear layers and batch norms
    :param fit_loader: ID data for ``"residue"``, one more pass; the others need none
    :param progress: show progress bars
    :return: one row per layer that ran, in the order of execution: ``Index``, ``Layer``,
        ``Kind``, ``Statistic``, ``AUROC`` (the share of pairs in which B has the larger value, so
        below 0.5 A has), ``Folded`` (:math:`\\max(AUROC, 1 - AUROC)`), ``BeatsLast`` (whether
        ``Folded`` is larger than that of the last layer), and the numbers of samples ``A``, ``B``
    :raises ValueError: if the statistic is unknown, or applies to none of the layers, a
        population is empty, a value is not finite, or ``fit_loader`` is missing or not needed
    :see Paper: Guglielmo and Masana, `Leveraging Intermediate Representations for Better
        Out-of-Distribution Detection (LIR) <https://arxiv.org/abs/2502.12849>`__, who compare
        layers by their energy
    """
    if statistic not in LAYER_STATISTICS:
        raise ValueError(f"statistic must be one of {LAYER_STATISTICS}, got {statistic!r}.")
    if (statistic == "residue") != (fit_loader is not None):
        raise ValueError("fit_loader is needed for 'residue', and for nothing else.")
    outputs = LayerOutputs(model, layers)
    with same_random_state():  # loaders draw seeds
        measure = _statistic(statistic, outputs, fit_loader, progress)
        of_a = _measure(outputs, measure, statistic, loader_a, "loader_a", progress)
        of_b = _measure(outputs, measure, statistic, loader_b, "loader_b", progress)
    rows = [
        _row(model, i, layer, statistic, values, of_b[layer])
        for i, (layer, values) in enumerate(of_a.items())
    ]
    for row in rows:
        row["BeatsLast"] = row["Folded"] > rows[-1]["Folded"]
    return rows


def _statistic(
    name: str, outputs: LayerOutputs, fit_loader: Iterable[Any] | None, progress: bool
) -> LayerStatistic:
    if fit_loader is not None:
        detectors = _fit_residues(outputs, fit_loader, progress)
        return lambda layer, output: (
            detectors[layer].predict_features(output) if layer in detectors else None
        )
    plain = {"energy": energy, "linf": infinity_norm, "tv": _mean_total_variation}[name]
    return lambda layer, output: plain(output)


def _fit_residues(
    outputs: LayerOutputs, loader: Iterable[Any], progress: bool
) -> dict[str, ViyogResidue]:
    modules = {name: unwrap(outputs.model).get_submodule(name) for name in outputs.layers}
    detectors = {
        name: ViyogResidue(None, layer=module, sample_size=_RESIDUE_SAMPLES)
        for name, module in modules.items()
        if isinstance(module, CONVOLUTIONS)
    }

    def fit(layer: str, output: Tensor) -> None:
        if layer in detectors:
            detectors[layer].partial_fit_features(output)

    for x in _inputs(outputs, loader, "fit_loader", progress):
        outputs.run(x, fit)
    return detectors


def _measure(
    outputs: LayerOutputs,
    measure: LayerStatistic,
    statistic: str,
    loader: Iterable[Any],
    name: str,
    progress: bool,
) -> dict[str, Tensor]:
    """Layer -> statistic of all samples, shape (N,), in the order of execution."""
    parts: dict[str, list[Tensor]] = {}
    for x in _inputs(outputs, loader, name, progress):
        for layer, values in outputs.run(x, measure).items():
            if values is not None:
                check_finite(f"{statistic} of layer {layer!r}", values)
                parts.setdefault(layer, []).append(values.cpu())
    if not parts:
        raise ValueError(f"{name} is empty, or {statistic!r} applies to none of the layers.")
    return {layer: torch.cat(part) for layer, part in parts.items()}


def _inputs(
    outputs: LayerOutputs, loader: Iterable[Any], name: str, progress: bool
) -> Iterator[Tensor]:
    device = next((p.device for p in outputs.model.parameters()), torch.device("cpu"))
    for batch in tqdm(loader, desc=name, leave=False, delay=1, disable=not progress):
        yield check_input(split_batch(batch)[0]).to(device)


def _row(
    model: Module, index: int, layer: str, statistic: str, a: Tensor, b: Tensor
) -> dict[str, Any]:
    labels = torch.cat([torch.zeros(len(a)), -torch.ones(len(b))])
    area = float(auroc(torch.cat([a, b]), labels))
    return {
        "Index": index,
        "Layer": layer,
        "Kind": type(unwrap(model).get_submodule(layer)).__name__,
        "Statistic": statistic,
        "AUROC": area,
        "Folded": max(area, 1 - area),
        "A": len(a),
        "B": len(b),
    }
