"""
Gradients of scores in respect to the input, through the public methods of any detector.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import getattr_static
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.overrides import TorchFunctionMode

__all__ = ["WithGradients", "gradients_to_input"]

# x.data, which is a detached x
_DATA = getattr_static(Tensor, "data").__get__
_LEAVES_TORCH = (Tensor.numpy, Tensor.__array__, Tensor.item, Tensor.__float__)


class WithGradients(TorchFunctionMode):
    """
    Inside this block, what switches gradients off (``no_grad``, ``detach``, ``data``, which
    detectors and forward passes wrap themselves in) has no effect. So the attacker differentiates
    the very method that users call, and no second version of it that could differ.

    What leaves torch for NumPy has no gradient. The image purifiers of this package add the change
    that NumPy computed to the image: the gradient then passes them straight through, which is
    BPDA with the identity.

    .. code-block:: python

        x.requires_grad_()
        with WithGradients():
            scores = detector.predict(x)
        (gradient,) = torch.autograd.grad(scores.sum(), x)

    :see: Athalye et al., *Obfuscated Gradients Give a False Sense of Security*, ICML 2018
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The functions that switch gradients off, replaced; in here, the block is left."""
        if func is torch._C._set_grad_enabled:
            return func(True)
        if func is Tensor.detach or func == _DATA:
            return args[0]
        if func in _LEAVES_TORCH:
            return func(args[0].detach(), *args[1:], **(kwargs or {}))
        return func(*args, **(kwargs or {}))


@contextmanager
def gradients_to_input(model: Module) -> Iterator[None]:
    """Where gradients are switched on, all have them in respect to the input, and to no weight."""
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in found:
            parameter.requires_grad_(False)
        if torch.is_grad_enabled():
            with WithGradients():
                yield
        else:
            yield
    finally:
        for parameter in found:
            parameter.requires_grad_(True)
