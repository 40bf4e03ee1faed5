"""
What a fitted second look tells: scores, both answers, its state.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_ood.api import Detector, ModelNotSetException, RequiresFittingException
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..detectors.residue import ViyogResidue
from ..layer.checks import check_finite, check_input
from .choice import Choice
from .comparison import Comparison
from .fitted_look import FittedLook
from .logits import Answers, PickLogits

__all__ = ["LookReadings"]


class LookReadings(Detector):  # type: ignore[misc]
    """
    Readings of a detector that compares an answer with the one without the residue. The first
    answer can come from a forward pass that others share.
    """

    follow: Any
    #: detector whose noise floor and directions are used, if it was given
    residue: ViyogResidue | None

    def __init__(
        self, model: Module | None, layer: str | Module | None, logits: PickLogits | None
    ):
        """
        :param model: as for :class:`~pytorch_ood_viyog.looks.second_look.SecondLook`
        :param layer: as for that
        :param logits: as for that
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
        self._fitted: FittedLook | None = None

    def attach(
        self,
        model: Module,
        layer: str | Module | None,
        logits: PickLogits | None,
        residue: ViyogResidue | None,
    ) -> Self:
        """
        Give a detector without model what its pipeline has: model, first layer, how logits are
        picked, and a reader of noise floors, of which one is enough.
        """
        if self.residue is None and self._fitted is None:
            self.residue = residue
        if self.model is None:
            self.model, self.layer = model, self.layer or layer
            self.logits = self.logits or logits
            self._answers = Answers(model, self.layer, self.logits)
        return self

    @property
    def layer_name(self) -> str | None:
        """Dotted name of the first layer; ``None`` before a pass has found it."""
        return None if self._answers is None else self._answers.first_layer.name

    @property
    def fitted(self) -> FittedLook:
        """What the fit found; an error before it."""
        if self._fitted is None:
            raise RequiresFittingException("SecondLook is not fitted. Call fit() first.")
        return self._fitted

    @property
    def _is_fitted(self) -> bool:
        return self._fitted is not None

    @property
    def choice(self) -> Choice | None:
        """Purifier and strength, what they cost on ID and what they leave; ``None`` unfitted."""
        return None if self._fitted is None else self._fitted.choice

    # -- predict ----------------------------------------------------------------------------

    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: scores of shape :math:`B`, larger for ADV
        :raises ModelNotSetException: if there is no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises TypeError: if ``x`` is not a tensor, or the model's answers are no class logits
        :raises ValueError: if ``x`` is not finite, or cannot be purified; a
            :class:`~pytorch_ood_viyog.looks.purification.PurifierError` holds the first answer
        """
        return self.compare(x).scores

    def predict_given(self, x: Tensor, logits: Tensor) -> Tensor:
        """As :meth:`predict`, where the model's first answer is known, :math:`B \\times C`."""
        return self.compare(x, logits).scores

    def answer(self, x: Tensor) -> Tensor:
        """
        :param x: as for :meth:`predict`
        :return: logits of the second answer where it overrules the first, else of the first,
            :math:`B \\times C`; see :attr:`Comparison.overruled`
        :raises ValueError: as :meth:`predict`
        """
        return self.compare(x).answer

    @torch.no_grad()
    def compare(self, x: Tensor, logits: Tensor | None = None) -> Comparison:
        """
        :param x: as for :meth:`predict`
        :param logits: the first answer, where it is known already, :math:`B \\times C`
        :return: both answers, scores and p-values
        :raises ValueError: as :meth:`predict`, or if there is not one answer per sample
        """
        fitted, answers = self.fitted, self._require_answers()
        x = check_input(x).to(answers.device)
        check_finite("Input", x)
        if logits is not None and (logits.dim() != 2 or len(logits) != len(x)):
            raise ValueError(
                f"logits must have the shape (B, C) with B = {len(x)}, got {tuple(logits.shape)}."
            )
        given = None if logits is None else logits.to(x.device)
        return fitted.compare(answers, self.follow, x, given)

    def _require_answers(self) -> Answers:
        if self._answers is None:
            raise ModelNotSetException(
                f"{type(self).__name__} has no model, and a second answer needs one. Pass it to "
                f"the constructor, or use the detector in a pipeline."
            )
        return self._answers

    # -- state ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """
        :return: everything that scoring needs but the model, as plain tensors, numbers and texts
            which ``torch.load(..., weights_only=True)`` reads
        :raises RequiresFittingException: if the detector is not fitted
        :raises TypeError: if the purifier is a function
        """
        fitted = self.fitted
        return {"class": type(self).__name__, "follow": self.follow, **fitted.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> Self:
        """
        :param state: what :meth:`state_dict` gave
        :return: the fitted detector
        :raises ValueError: if it is the state of another class, or lacks an entry; the detector
            is then as it was
        """
        wanted = {"class", "follow", "choice", "duals", "pixels", "known", "reference", "residue"}
        if set(state) != wanted or state["class"] != type(self).__name__:
            raise ValueError(
                f"state must be that of a {type(self).__name__} with the entries "
                f"{sorted(wanted)}, got {sorted(state)} of class {state.get('class')!r}."
            )
        residue = self.residue or ViyogResidue(self.model, layer=self.layer)
        try:
            loaded = FittedLook.of_state(state, residue)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"state is not whole, or of another version: {error}. Fit the "
                f"{type(self).__name__} again."
            ) from error
        self.follow, self._fitted = state["follow"], loaded
        return self
