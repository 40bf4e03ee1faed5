"""
The user's model as simulated attacks see it: images in [0, 1] in, differentiable logits out.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module

from ...images.pixel_range import PixelRange
from ...images.pixels import to_8_bit
from ...layer.manners import as_found_with_gradients, unwrap

__all__ = ["Classifier", "NoGradientsError", "margin"]

# images at once
_CHUNK = 64


class NoGradientsError(RuntimeError):
    """The model's logits cannot be differentiated."""


def margin(logits: Tensor, answers: Tensor) -> Tensor:
    """
    :param logits: :math:`l`, shape :math:`B \\times C`
    :param answers: a class :math:`c` of each image, shape :math:`B`
    :return: :math:`l_c - \\max_{k \\neq c} l_k`, negative where the answer is another, shape
        :math:`B`
    """
    own = torch.nn.functional.one_hot(answers, logits.shape[1]).bool()
    others = logits.masked_fill(own, -torch.inf).amax(dim=1)
    return logits.gather(1, answers[:, None])[:, 0] - others


class Classifier:
    """
    Asks a model about images in [0, 1], with gradients; the model is left as it was found.
    """

    def __init__(
        self,
        model: Module,
        pixels: PixelRange,
        logits: Callable[[object], Tensor] | None = None,
    ):
        """
        :param model: classifier
        :param pixels: black and white of its inputs
        :param logits: picks the logits out of its output
        """
        self.model = unwrap(model)
        self.pixels = pixels
        self.pick = logits

    def logits(self, images: Tensor) -> Tensor:
        """
        :param images: :math:`B \\times C \\times *S` in [0, 1]
        :return: logits, :math:`B \\times C`
        """
        output = self.model(self.pixels.inputs(images))
        picked: Tensor = output if self.pick is None else self.pick(output)
        return picked

    def answers(self, images: Tensor) -> Tensor:
        """
        :param images: as for :meth:`logits`
        :return: the class that the model answers, shape :math:`B`
        """
        with as_found_with_gradients(self.model), torch.no_grad():
            parts = [self.logits(part).argmax(dim=1) for part in torch.split(images, _CHUNK)]
        return torch.cat(parts)

    def gradient(self, images: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """
        :param images: as for :meth:`logits`
        :param loss: from logits to one number a sample
        :return: gradient of the sum of the losses at the images, and the losses
        :raises NoGradientsError: if the model cannot be differentiated
        """
        with torch.inference_mode(False), as_found_with_gradients(self.model):
            leaf = images.detach().clone().requires_grad_()
            try:
                losses = loss(self.logits(leaf))
                (gradient,) = torch.autograd.grad(losses.sum(), leaf)
            except RuntimeError as error:
                raise NoGradientsError(str(error)) from error
        return gradient.detach(), losses.detach()

    def fooled(self, images: Tensor, answers: Tensor) -> Tensor:
        """
        :param images: changed images
        :param answers: answers to the unchanged ones
        :return: whether the answer is another once they are rounded to 8 bit, shape :math:`B`
        """
        return self.answers(to_8_bit(images)) != answers

    def can_be_differentiated(self, images: Tensor) -> bool:
        """
        :param images: a few images
        :return: whether attacks can follow the model's gradients
        """
        try:
            gradient, _ = self.gradient(images, lambda logits: logits.amax(dim=1))
        except NoGradientsError:
            return False
        return bool(gradient.isfinite().all()) and bool(gradient.any())


class Unaimed(Classifier):
    """
    Stands in for a model that cannot be differentiated: its gradients are shaped by the filters
    of its first layer, but aim at no answer, and every change counts as an attack.
    """

    def __init__(self, classifier: Classifier, direction: Callable[[Tensor, Tensor], Tensor]):
        """
        :param classifier: the model
        :param direction: gives a direction as a gradient through the first layer would have it
        """
        super().__init__(classifier.model, classifier.pixels, classifier.pick)
        self.direction = direction

    def gradient(self, images: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`Classifier.gradient`; the losses are zero."""
        return self.direction(images, images), images.new_zeros(len(images))

    def fooled(self, images: Tensor, answers: Tensor) -> Tensor:
        """See :meth:`Classifier.fooled`; all are."""
        return torch.ones_like(answers, dtype=torch.bool)
