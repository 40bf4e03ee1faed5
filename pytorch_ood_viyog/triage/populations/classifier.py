"""
The user's model as simulated attacks see it: images in [0, 1] in, differentiable logits out.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Module

from ...images.pixel_range import PixelRange
from ...images.pixels import to_8_bit
from ...layer.batches import at_once
from ...layer.manners import as_found_with_gradients, unwrap

__all__ = ["Classifier", "NoGradientsError", "cross_entropy", "margin"]


Loss = Callable[[Tensor, Tensor], Tensor]


class NoGradientsError(RuntimeError):
    """The model's logits cannot be differentiated."""


def cross_entropy(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of each image, shape :math:`B`."""
    return torch.nn.functional.cross_entropy(logits, answers, reduction="none")


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
        """Logits, :math:`B \\times C`, of images in [0, 1], :math:`B \\times C \\times *S`."""
        output = self.model(self.pixels.inputs(images))
        picked: Tensor = output if self.pick is None else self.pick(output)
        return picked

    def answers(self, images: Tensor) -> Tensor:
        """The class that the model answers to each image, shape :math:`B`."""
        with as_found_with_gradients(self.model), torch.no_grad():
            parts = [
                self.logits(part).argmax(dim=1) for part in torch.split(images, at_once(images))
            ]
        return torch.cat(parts)

    def gradient(self, images: Tensor, answers: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """
        :param images: as for :meth:`logits`
        :param answers: a class of each image, shape :math:`B`
        :param loss: from logits and answers to one number a sample
        :return: gradient of the sum of the losses at the images, and the losses
        :raises NoGradientsError: if the model cannot be differentiated
        """
        count = at_once(images)
        parts = zip(torch.split(images, count), torch.split(answers, count), strict=True)
        with torch.inference_mode(False), as_found_with_gradients(self.model):
            try:
                found = [self._gradient(*part, loss) for part in parts]
            except RuntimeError as error:
                raise NoGradientsError(str(error)) from error
        gradients, losses = zip(*found, strict=True)
        return torch.cat(gradients), torch.cat(losses)

    def _gradient(self, images: Tensor, answers: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        leaf = images.detach().clone().requires_grad_()
        losses = loss(self.logits(leaf), answers)
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        return gradient.detach(), losses.detach()

    def fooled(self, images: Tensor, answers: Tensor) -> Tensor:
        """Whether each answer is another once the images are rounded to 8 bit."""
        return self.answers(to_8_bit(images)) != answers

    def can_be_differentiated(self, images: Tensor) -> bool:
        """Whether attacks can follow the model's gradients at a few images."""
        try:
            answers = torch.zeros(len(images), dtype=torch.int64, device=images.device)
            gradient, _ = self.gradient(images, answers, lambda logits, _: logits.amax(dim=1))
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

    def gradient(self, images: Tensor, answers: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """See :meth:`Classifier.gradient`; the losses are zero."""
        return self.direction(images, images), images.new_zeros(len(images))

    def fooled(self, images: Tensor, answers: Tensor) -> Tensor:
        """See :meth:`Classifier.fooled`; all are."""
        return torch.ones_like(answers, dtype=torch.bool)
