"""
What detectors fit to, gathered over the batches of one pass.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from ..detectors.base import FirstLayerDetector
from ..fitting.fitted import Statistics
from ..layer.checks import check_finite
from ..layer.layer_call import LayerCall
from .feeding import give_layer
from .shared_pass import ReadFirstLayer, Representations

__all__ = ["IdSamples"]


class IdSamples:
    """
    Representations of ID samples, collected in CPU memory, and the statistics of first-layer
    maps, which are consumed batch by batch.
    """

    def __init__(self, wanted: Collection[str], first_layer: Mapping[str, FirstLayerDetector]):
        """
        :param wanted: names of fields of :class:`Representations` to collect
        :param first_layer: first-layer detectors by name
        """
        self._first_layer = first_layer
        self._parts: dict[str, list[Tensor]] = {name: [] for name in wanted}
        self._labels: list[Tensor] = []
        #: statistics of the maps by name of the detector; ``None`` before the first batch
        self.statistics: dict[str, Statistics | None] = dict.fromkeys(first_layer)

    def reader(self, x: Tensor) -> ReadFirstLayer | None:
        """
        :param x: the batch that is about to pass
        :return: adds its maps to the statistics; ``None`` if there are no first-layer detectors
        """

        def read(call: LayerCall) -> None:
            for name, detector in self._first_layer.items():
                give_layer(detector, call)
                batch = detector._measure_call(x, call)
                self.statistics[name] = detector._add(self.statistics[name], batch)

        return read if self._first_layer else None

    def add(self, seen: Representations, y: Any) -> None:
        """
        :param seen: what the pass gave for the batch
        :param y: its labels, shape :math:`B`
        :raises ValueError: if there are no labels, or the representations are not finite
        """
        if not self._parts:
            return
        if y is None:
            raise ValueError(
                "data_loader must yield (x, y) to fit detectors of logits, features or feature "
                "maps, got no labels."
            )
        for name, parts in self._parts.items():
            values = getattr(seen, name)
            check_finite(name.capitalize().replace("_", " "), values)
            parts.append(values.cpu())
        self._labels.append(torch.as_tensor(y).cpu())

    def representations(self) -> dict[str, Tensor]:
        """
        :return: name -> values of all samples, and ``"labels"``
        :raises ValueError: if there are no samples
        """
        if not self._parts:
            return {}
        if not self._labels:
            raise ValueError(
                "data_loader holds no ID samples: it is empty, or all labels are < 0."
            )
        collected = {name: torch.cat(parts) for name, parts in self._parts.items()}
        return collected | {"labels": torch.cat(self._labels)}
