"""
Which layer is a model's classification head: the one whose output becomes the logits.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Conv2d, Linear, Module

from ..layer.hooks import PassHooks

__all__ = ["HeadWatch"]

# numbers from which on an equality up to a scale is none by chance, and deviation that is none
_ENOUGH, _SAME = 8, 1e-3


class HeadWatch:
    """What the layers that could be the head take and give, in one forward pass."""

    def __init__(self, model: Module, hooks: PassHooks, name: str | None):
        """``name`` is that of the head, if it is known."""
        self.label = type(model).__name__
        self.name = name
        #: inputs and outputs of each run, by name
        self.ran: dict[str, list[tuple[Tensor, Tensor]]] = {}
        likely = {n: m for n, m in model.named_modules() if _may_be_head(m)}
        heads = likely if name is None else {name: model.get_submodule(name)}
        for each, module in heads.items():
            hooks.after(module, self._remember(each))

    def _remember(self, name: str) -> Callable[..., None]:
        def hook(layer: Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            taken = next(iter((*args, *kwargs.values())))
            if self.name is None and (not isinstance(output, Tensor) or not _is_flat(output)):
                return  # tokens, or a convolution of what is not pooled yet
            # copies: what comes after the layer may work in place
            given = output.detach().clone() if isinstance(output, Tensor) else taken
            runs = self.ran.pop(name, [])  # the last to run comes last
            self.ran[name] = [*runs, (taken.detach().clone(), given)]

        return hook

    def found(self, logits: Callable[[], Tensor], count: int) -> tuple[str, Tensor]:
        """
        :param logits: gives the model's logits, :math:`B \\times C`
        :param count: number of samples :math:`B`
        :return: name of the head, and its input, :math:`B \\times D`
        :raises RuntimeError: if no likely layer ran
        :raises ValueError: if the head is not clear, or its input has another shape
        """
        if not self.ran:
            looked_for = f"The head {self.name!r}" if self.name else "A Linear layer"
            raise RuntimeError(
                f"{looked_for} never runs in the forward pass of {self.label}, or only on tokens. "
                f"Name the layer whose input are the penultimate features by head='...'."
            )
        name = self.name or self._becoming(logits, count)
        features, _ = self._whole(name, count)
        if features.dim() < 2 or len(features) != count:
            raise ValueError(
                f"Features must have the shape (B, D) with B = {count}, got "
                f"{tuple(features.shape)} at the input of {name!r}. Name the layer whose input "
                f"are the penultimate features by head='...'."
            )
        return name, features.flatten(1)

    def _whole(self, name: str, count: int) -> tuple[Tensor, Tensor]:
        """Of all runs, where they were on parts of the batch, else of the last."""
        runs = self.ran[name]
        if len(runs) > 1 and sum(len(taken) for taken, _ in runs) == count:
            inputs, outputs = zip(*runs, strict=True)
            return torch.cat(inputs), torch.cat(outputs)
        return runs[-1]

    def _becoming(self, logits: Callable[[], Tensor], count: int) -> str:
        try:
            wanted = logits()
        except (TypeError, ValueError):
            names = list(self.ran) if len(self.ran) == 1 else []
        else:
            given = {name: self._whole(name, count)[1].flatten(1) for name in self.ran}
            names = [name for name, output in given.items() if _becomes(output, wanted)]
        if len(names) == 1:
            return names[0]
        what = f"several do: {names}" if names else f"none does of those that ran: {[*self.ran]}"
        raise ValueError(
            f"The head of {self.label} is the layer whose output becomes the logits, but {what}. "
            f"Name the layer whose input are the penultimate features by head='...'."
        )


def _may_be_head(module: Module) -> bool:
    pointwise = isinstance(module, Conv2d) and set(module.kernel_size) == {1}
    return isinstance(module, Linear) or pointwise


def _is_flat(output: Tensor) -> bool:
    return output.dim() >= 2 and output.shape[2:].numel() == 1


def _becomes(given: Tensor, logits: Tensor) -> bool:
    """Up to a scale, and an offset of each sample, as of a temperature or a log-softmax."""
    if given.shape != logits.shape:
        return False
    one, other = given.double(), logits.to(given.device).double()
    if one.numel() >= _ENOUGH and one.shape[1] > 2:
        one, other = (values - values.mean(dim=1, keepdim=True) for values in (one, other))
        one = one * ((one * other).sum() / one.square().sum().clamp_min(1e-300))
    return bool((one - other).abs().max() <= _SAME * other.abs().max())
