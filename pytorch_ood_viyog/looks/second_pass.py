"""
The base of detectors that ask the model again and compare the answers.
"""

from abc import abstractmethod
from typing import Any

import torch
from pytorch_ood.api import Detector, ModelNotSetException
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..detectors.residue import ViyogResidue
from ..layer.checks import check_finite, check_input
from .logits import Answers, PickLogits

__all__ = ["SecondPass"]


class SecondPass(Detector):  # type: ignore[misc]
    """
    Base class of detectors whose score compares the model's answer with further answers of it to
    a changed input. The first answer can come from a forward pass that others share.
    """

    def __init__(
        self,
        model: Module | None,
        *,
        layer: str | Module | None = None,
        logits: PickLogits | None = None,
    ):
        """
        :param model: classifier; ``None`` where a pipeline gives it
        :param layer: first layer, as dotted name or module; default is the first convolution that
            executes
        :param logits: picks the logits out of the model's output, for models that return a tuple
            or a dictionary
        :raises TypeError: if ``model`` is not a module, or ``logits`` cannot be called
        :raises ValueError: if the model does not contain ``layer``
        """
        if model is not None and not isinstance(model, Module):
            raise TypeError(f"model must be a torch.nn.Module or None, got {type(model).__name__}")
        if logits is not None and not callable(logits):
            raise TypeError(f"logits must be callable, got {type(logits).__name__}.")
        self.model = model  # first: pytorch-ood reads the device off the first attribute with one
        self.layer = layer
        self.logits = logits
        self._answers = None if model is None else Answers(model, layer, logits)

    @property
    def layer_name(self) -> str | None:
        """Dotted name of the first layer; ``None`` before a pass has found it."""
        return None if self._answers is None else self._answers.first_layer.name

    @abstractmethod
    def _score(self, x: Tensor, first: Tensor) -> Tensor:
        """Scores of checked inputs with their first logits."""

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: scores of shape :math:`B`, larger for ADV
        :raises ModelNotSetException: if there is no model
        :raises RequiresFittingException: if the detector requires fitting and is not fitted
        :raises TypeError: if ``x`` is not a tensor, or the model's answers are no class logits
        :raises ValueError: if ``x`` is not finite, or the answers have another shape
        """
        x = self._checked(x)
        return self._score(x, self._require_answers().logits(x))

    @torch.no_grad()
    def predict_given(self, x: Tensor, logits: Tensor) -> Tensor:
        """
        As :meth:`predict`, where the model's first answer is known already.

        :param x: batch of model inputs, first dimension :math:`B`
        :param logits: the model's logits for them, :math:`B \\times C`
        :return: scores of shape :math:`B`, larger for ADV
        :raises ValueError: if there is not one answer per sample, or as :meth:`predict`
        """
        x = self._checked(x)
        return self._score(x, self._given(x, logits))

    def attach(
        self,
        model: Module,
        layer: str | Module | None,
        logits: PickLogits | None,
        residue: ViyogResidue | None,
    ) -> Self:
        """
        Give a detector without model the model of a pipeline.

        :param model: the pipeline's model
        :param layer: the pipeline's first layer
        :param logits: how the pipeline picks logits
        :param residue: the pipeline's reader of noise floors, if it has one
        :return: the detector
        """
        if self.model is None:
            self.model, self.layer = model, self.layer or layer
            self.logits = self.logits or logits
            self._answers = Answers(model, self.layer, self.logits)
        return self

    def _given(self, x: Tensor, logits: Tensor) -> Tensor:
        if logits.dim() != 2 or len(logits) != len(x):
            raise ValueError(
                f"logits must have the shape (B, C) with B = {len(x)}, got {tuple(logits.shape)}."
            )
        return logits.to(x.device)

    def _require_answers(self) -> Answers:
        if self._answers is None:
            raise ModelNotSetException(
                f"{type(self).__name__} has no model, and a second answer needs one. Pass it to "
                f"the constructor, or use the detector in a pipeline."
            )
        return self._answers

    def _checked(self, x: Any) -> Tensor:
        answers = self._require_answers()
        inputs: Tensor = check_input(x).to(answers.device)
        check_finite("Input", inputs)
        return inputs
