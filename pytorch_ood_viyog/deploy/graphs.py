"""
Models with detectors as modules from one tensor to named tensors.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from .scored_model import with_score

__all__ = ["Graph", "PickLogits", "ScoresGraph"]

PickLogits = Callable[[Any], Tensor]


class Graph(Module):
    """From a batch of inputs to outputs that have names."""

    #: names of the outputs, in their order
    names: Sequence[str]
    #: what a reader of the file needs to know, as numbers, texts and lists of them
    metadata: Mapping[str, Any]

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """
        :param x: batch of model inputs
        :return: one tensor per name
        """

    def concluded(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """
        :param outputs: name -> what somebody else found for these inputs
        :return: name -> what follows from others of these by comparisons, where an error of
            rounding may change the result; what is found here must be equal
        """
        return {}


class ScoresGraph(Graph):
    """Outputs ``logits``, and ``score`` or for several detectors ``score_NAME``."""

    def __init__(
        self,
        model: Module,
        detector: FirstLayerDetector | Mapping[str, FirstLayerDetector],
        *,
        layer: str | Module | None = None,
        logits: PickLogits | None = None,
        thresholds: float | Mapping[str, float] | None = None,
    ):
        """
        :param model: model, which is copied
        :param detector: fitted detector, or several by name
        :param layer: layer to read
        :param logits: picks the logits out of the model's output
        :param thresholds: score above which a detector raises an alarm, one number or by name
        :raises ValueError: if thresholds are not those of the detectors, or as ``with_score``
        """
        super().__init__()
        self.scored = with_score(model, detector, layer=layer)
        self.pick = logits
        several = isinstance(detector, Mapping)
        named = dict(detector) if isinstance(detector, Mapping) else {"": detector}
        outputs = {name: f"score_{name}" if several else "score" for name in named}
        limits = thresholds if isinstance(thresholds, Mapping) else {"": thresholds}
        limits = {name: float(limit) for name, limit in limits.items() if limit is not None}
        if not set(limits) <= set(named):
            raise ValueError(
                f"thresholds must be {f'by the names {[*named]}' if several else 'one number'}, "
                f"got {thresholds!r}."
            )
        self.names = ["logits", *outputs.values()]
        self.metadata = {
            "detectors": {outputs[name]: type(each).__name__ for name, each in named.items()},
            "thresholds": {outputs[name]: limit for name, limit in limits.items()},
        }

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """
        :param x: batch of model inputs
        :return: logits, and scores of each detector
        """
        output, scores = self.scored(x)
        picked = output if self.pick is None else self.pick(output)
        return picked, *(scores.values() if isinstance(scores, dict) else (scores,))
