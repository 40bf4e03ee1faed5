"""
A model that answers twice, with and without the residue, as one module without hooks.
"""

import copy

from pytorch_ood.api import RequiresFittingException
from torch import Tensor
from torch.nn import Module

from ..layer.layer_call import LayerCall
from ..layer.manners import unwrap
from ..looks.comparison import Reference
from ..looks.second_look import SecondLook
from .graphs import Graph
from .scorers import FittedState
from .stand_ins import PurifiedLayer, put_in_place

__all__ = ["SecondLookGraph", "with_second_look"]


class SecondLookGraph(Graph):
    """
    A module from inputs to ``logits``, ``second_logits`` and ``score``, for ``torch.export`` and
    ``torch.compile``; for an ONNX file see
    :func:`~pytorch_ood_viyog.deploy.onnx_file.export_onnx`. Only the purifier ``"maps"`` is plain
    tensor code: the others call image libraries.

    It holds a copy of the model in evaluation mode, whose layers run twice. Unlike the detector,
    it does not refuse NaN and inf; their scores are NaN.

    .. rubric:: Examples

    .. code-block:: python

        look = SecondLook(model, purifier="maps").fit(train_loader)
        logits, second, scores = with_second_look(look)(images)
    """

    def __init__(self, look: SecondLook):
        """
        :param look: fitted detector
        :raises TypeError: if it is no :class:`SecondLook`, or its purifier works on images, or its
            first layer has several branches or hooks
        :raises RequiresFittingException: if it is not fitted
        :raises ValueError: if it has not seen an input since it was loaded
        """
        layer = _checked_layer(look)
        super().__init__()
        fitted = look.fitted
        assert look.model is not None, "a fitted second look has a model"
        self.pick = look.logits
        self.model = copy.deepcopy(unwrap(look.model)).eval()
        read = self.model.get_submodule(layer)
        self._layer = PurifiedLayer(read, _MapsPurifier(look))
        put_in_place(self.model, read, self._layer)
        self.reference = FittedState(fitted.reference.tensors())
        self.names = ["logits", "second_logits", "score"]
        self.metadata = {
            "detectors": {"score": type(look).__name__},
            "thresholds": {},
            "purifier": fitted.choice.purifier,
            "strength": fitted.choice.strength,
            "follow": look.follow,
        }

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        :param x: batch of model inputs
        :return: logits of both answers, and scores, larger for ADV
        :raises RuntimeError: if the first layer does not run
        """
        first = self._logits(x)
        purified = self._layer.purified.take()
        if purified is None:
            raise RuntimeError("The layer that the second look changes did not run.")
        self._layer.instead.put(purified)
        second = self._logits(x)
        self._layer.purified.take()
        return first, second, Reference(**self.reference.tensors()).scores(first, second)

    def _logits(self, x: Tensor) -> Tensor:
        output = self.model(x)
        logits: Tensor = output if self.pick is None else self.pick(output)
        return logits


class _MapsPurifier(Module):
    """What a fitted second look needs to take the residue out of maps, without its model."""

    def __init__(self, look: SecondLook):
        super().__init__()
        fitted = look.fitted
        self.state = FittedState(fitted.residue._require_state())
        self.residue = fitted.residue._without_model()
        self.strength, self.follow = fitted.choice.strength, look.follow
        self.register_buffer("duals", fitted.duals.detach().clone())

    def forward(self, call: LayerCall) -> Tensor:
        state = self.state.tensors()
        floors = self.residue.noise_floor_at(call, state)
        strengths = self.strength + self.follow * floors
        return self.residue.purified_maps_at(call, self.get_buffer("duals"), strengths, state)


#: the same, as one calls it
with_second_look = SecondLookGraph


def _checked_layer(look: SecondLook) -> str:
    if not isinstance(look, SecondLook):
        raise TypeError(f"look must be a SecondLook, got {type(look).__name__}.")
    if look.choice is None:
        raise RequiresFittingException("SecondLook is not fitted. Call fit() first.")
    if look.choice.purifier != "maps":
        raise TypeError(
            f"Purifier {look.choice.purifier!r} works on images, outside of PyTorch's own "
            f"operations, and no graph can hold that. Fit SecondLook(model, purifier='maps'), "
            f"which works inside the model."
        )
    name = look.layer_name
    if name is None or look.model is None:
        raise ValueError(
            "This SecondLook does not know its first layer yet. Ask it about a batch first: "
            "look.predict(x), or name the layer: SecondLook(model, layer='...')."
        )
    if unwrap(look.model).get_submodule(name)._forward_hooks:
        raise TypeError(
            f"Layer {name!r} has forward hooks, which would not see the purified maps in a "
            f"graph. Remove them first."
        )
    return name
