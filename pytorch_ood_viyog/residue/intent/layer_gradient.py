"""
The model's own gradients at the layer that a detector reads.
"""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Module, functional

from ...layer.batches import at_once
from ...layer.finding import Stem
from ...layer.hooks import PassHooks
from ...layer.manners import as_found_with_gradients, unwrap

__all__ = ["LayerGradient"]


class LayerGradient:
    """
    The direction in which the model's own answer becomes less likely: the gradient, at the
    layer's input, of the cross-entropy towards the class that the model gives to clean inputs.
    """

    def __init__(self, model: Module, layer: Module):
        """Of a classifier, at the layer of it that is read first."""
        self.model = unwrap(model)
        self.layer = layer
        # the clean inputs asked about last, the answers to them, and the gradient there: every
        # strength of residue starts from these
        self._clean: Tensor | None = None
        self._answers: list[Tensor] | None = None
        self._first: Tensor | None = None

    def __call__(self, inputs: Tensor, clean: Tensor) -> Tensor:
        """
        :param inputs: inputs of the layer
        :param clean: the inputs whose answer counts
        :raises RuntimeError: if the model gives no logits, or cannot be differentiated
        """
        if clean is not self._clean:
            self._clean, self._answers, self._first = clean, None, None
        if inputs is not clean:
            return self._gradient(inputs, clean)
        if self._first is None:
            self._first = self._gradient(inputs, clean)
        return self._first

    def _gradient(self, inputs: Tensor, clean: Tensor) -> Tensor:
        with torch.inference_mode(False), as_found_with_gradients(self.model):
            if self._answers is None and inputs is not clean:
                self._answers = [self._answers_to(part) for part in _parts(clean)]
            parts = _parts(inputs)
            answers: Iterable[Tensor | None] = self._answers or itertools.repeat(None, len(parts))
            found = [self._gradient_at(*each) for each in zip(parts, answers, strict=True)]
        self._answers = [own for _, own in found]
        return torch.cat([gradient for gradient, _ in found])

    def _answers_to(self, clean: Tensor) -> Tensor:
        with torch.no_grad():
            return self._logits(clean.clone()).argmax(dim=1)

    def _gradient_at(self, inputs: Tensor, answers: Tensor | None) -> tuple[Tensor, Tensor]:
        """Away from these answers, or from those to the inputs themselves; both."""
        leaf = inputs.clone().requires_grad_()
        logits = self._logits(leaf)
        answers = logits.argmax(dim=1).detach() if answers is None else answers
        loss = functional.cross_entropy(logits, answers, reduction="sum")
        if not loss.requires_grad:
            raise RuntimeError(self._refused("its output does not depend on the layer"))
        try:
            (gradient,) = torch.autograd.grad(loss, leaf)
        except RuntimeError as error:
            raise RuntimeError(self._refused(str(error))) from error
        return gradient.detach(), answers

    def _logits(self, inputs: Tensor) -> Tensor:
        """Of the model as if its layer had seen these inputs, whatever comes before it."""
        is_stem = isinstance(self.layer, Stem)
        with PassHooks() as hooks:
            hooks.before(self.layer, lambda _, args, kwargs: ((inputs, *args[1:]), kwargs))
            try:
                # a stem takes what the model takes
                logits = self.model(inputs if is_stem else inputs.detach())
            except (RuntimeError, TypeError, NotImplementedError) as error:
                raise RuntimeError(self._refused(str(error))) from error
        if not isinstance(logits, Tensor) or logits.dim() != 2 or not logits.is_floating_point():
            kind = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise RuntimeError(self._refused(f"its output is {kind}, no logits of shape B × C"))
        return logits

    def _refused(self, reason: str) -> str:
        return (
            f"residues='gradients' needs a classifier that can be differentiated, and "
            f"{type(self.model).__name__} cannot: {reason}. Use residues='filters'."
        )


def _parts(inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.split(inputs, at_once(inputs))
