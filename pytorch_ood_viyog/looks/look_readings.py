"""
What a fitted second look tells: scores, both answers, its state.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_ood.api import RequiresFittingException
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..detectors.residue import ViyogResidue
from .choice import Choice
from .comparison import Comparison
from .fitted_look import FittedLook
from .logits import PickLogits
from .second_pass import SecondPass

__all__ = ["LookReadings"]


class LookReadings(SecondPass):
    """Readings of a detector that compares an answer with the one without the residue."""

    #: how much of the measured noise floor is added to the strength
    follow: float
    #: detector whose noise floor and directions are used, if it was given
    residue: ViyogResidue | None

    def __init__(
        self,
        model: Module | None,
        *,
        layer: str | Module | None = None,
        logits: PickLogits | None = None,
    ):
        """
        :param model: as for :class:`~pytorch_ood_viyog.looks.second_look.SecondLook`
        :param layer: as for that
        :param logits: as for that
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if the model does not contain ``layer``
        """
        super().__init__(model, layer=layer, logits=logits)
        self._fitted: FittedLook | None = None

    def attach(
        self,
        model: Module,
        layer: str | Module | None,
        logits: PickLogits | None,
        residue: ViyogResidue | None,
    ) -> Self:
        """
        See :meth:`~pytorch_ood_viyog.looks.second_pass.SecondPass.attach`; one reader of noise
        floors is enough for a pipeline.
        """
        if self.residue is None and self._fitted is None:
            self.residue = residue
        return super().attach(model, layer, logits, residue)

    @property
    def fitted(self) -> FittedLook:
        """
        What the fit found.

        :raises RequiresFittingException: if the detector is not fitted
        """
        if self._fitted is None:
            raise RequiresFittingException
        return self._fitted

    @property
    def _is_fitted(self) -> bool:
        return self._fitted is not None

    @property
    def choice(self) -> Choice | None:
        """Purifier and strength, what they cost on ID and what they leave; ``None`` unfitted."""
        return None if self._fitted is None else self._fitted.choice

    # -- predict ----------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs, first dimension :math:`B`
        :return: scores of shape :math:`B`, larger for ADV
        :raises ModelNotSetException: if there is no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: if ``x`` is not finite, or cannot be purified; a
            :class:`~pytorch_ood_viyog.looks.purification.PurifierError` holds the first answer
        """
        return self.compare(x).scores

    @torch.no_grad()
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
        :raises ValueError: as :meth:`predict`
        """
        fitted, answers = self.fitted, self._require_answers()
        x = self._checked(x)
        given = None if logits is None else self._given(x, logits)
        return fitted.compare(answers, self.follow, x, given)

    def _score(self, x: Tensor, first: Tensor) -> Tensor:
        return self.compare(x, first).scores

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
        loaded = FittedLook.of_state(state, residue)
        self.follow, self._fitted = state["follow"], loaded
        return self
