"""
layer_scan: which layer of a network tells two populations apart.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from pytorch_ood.metrics.functional import auroc
from torch import Tensor
from torch.nn import Module
from tqdm import tqdm

from .checks import check_finite, check_input, split_batch
from .guest import unwrap
from .layer_outputs import LayerOutputs
from .tv import total_variation
from .viyog import infinity_norm

__all__ = ["LAYER_STATISTICS", "energy", "layer_scan"]

LayerStatistic = Callable[[Tensor], Tensor]


def energy(output: Tensor) -> Tensor:
    """
    :param output: output :math:`a` of a layer, first dimension :math:`B`
    :return: :math:`-\\log \\sum_i e^{a_i}` over all activations of a sample, shape :math:`B`
    """
    return -torch.logsumexp(output.flatten(1).double(), dim=1)


def _mean_total_variation(output: Tensor) -> Tensor:
    return total_variation(output).mean(dim=1).double()


#: statistic -> its function from the output of a layer to one number per sample
LAYER_STATISTICS: Mapping[str, LayerStatistic] = {
    "energy": energy,
    "linf": infinity_norm,
    "tv": _mean_total_variation,
}


def layer_scan(
    model: Module,
    loader_a: Iterable[Any],
    loader_b: Iterable[Any],
    statistic: str = "energy",
    *,
    layers: Sequence[str] | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """
    How well each layer tells population B from population A, by one number per sample and layer:

    - ``"energy"``: :math:`-\\log \\sum_i e^{a_i}` over all activations of the layer (LIR)
    - ``"linf"``: :math:`\\max |a|`
    - ``"tv"``: total variation (:func:`~pytorch_ood_viyog.tv.total_variation`), mean over
      channels; only layers with feature maps

    Nothing is fitted, so any two populations can be compared: ID and OOD, OOD and ADV. One
    forward pass serves all layers, and of their outputs one number per sample is kept.

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
    :param progress: show progress bars
    :return: one row per layer that ran, in the order of execution: ``Index``, ``Layer``,
        ``Kind``, ``Statistic``, ``AUROC`` (the share of pairs in which B has the larger value, so
        below 0.5 A has), ``Folded`` (:math:`\\max(AUROC, 1 - AUROC)`), ``BeatsLast`` (whether
        ``Folded`` is larger than that of the last layer), and the numbers of samples ``A``, ``B``
    :raises ValueError: if the statistic is unknown, a population is empty, a value is not finite,
        or the statistic applies to none of the layers
    :see Paper: Guglielmo and Masana, `Leveraging Intermediate Representations for Better
        Out-of-Distribution Detection (LIR) <https://arxiv.org/abs/2502.12849>`__, who compare
        layers by their energy
    """
    if statistic not in LAYER_STATISTICS:
        raise ValueError(f"statistic must be one of {list(LAYER_STATISTICS)}, got {statistic!r}.")
    outputs = LayerOutputs(model, layers)
    measure = LAYER_STATISTICS[statistic]
    values = [
        _measure(outputs, measure, statistic, loader, name, progress)
        for name, loader in (("loader_a", loader_a), ("loader_b", loader_b))
    ]
    rows = [
        _row(model, i, layer, statistic, *(v[layer] for v in values))
        for i, layer in enumerate(values[0])
    ]
    for row in rows:
        row["BeatsLast"] = row["Folded"] > rows[-1]["Folded"]
    return rows


def _measure(
    outputs: LayerOutputs,
    measure: LayerStatistic,
    statistic: str,
    loader: Iterable[Any],
    name: str,
    progress: bool,
) -> dict[str, Tensor]:
    """Layer -> statistic of all samples, shape (N,), in the order of execution."""
    needs_maps = statistic == "tv"

    def read(layer: str, output: Tensor) -> Tensor | None:
        return None if needs_maps and output.dim() < 3 else measure(output).cpu()

    parts: dict[str, list[Tensor]] = {}
    device = next((p.device for p in outputs.model.parameters()), torch.device("cpu"))
    for batch in tqdm(loader, desc=name, leave=False, delay=1, disable=not progress):
        x = check_input(split_batch(batch)[0]).to(device)
        for layer, values in outputs.run(x, read).items():
            if values is not None:
                check_finite(f"{statistic} of layer {layer!r}", values)
                parts.setdefault(layer, []).append(values)
    if not parts:
        raise ValueError(f"{name} is empty, or {statistic!r} applies to none of the layers.")
    return {layer: torch.cat(part) for layer, part in parts.items()}


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
