"""
ViyogIntent: is a residue shaped as an attack's, or did a camera, a codec or an editor leave it?
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Module

from ..fitting.fitted import Statistics
from ..layer.first_layer import LayerCall
from ..layer.linear.effective_convolution import EffectiveConvolution
from ..layer.linear.plain_convolution import exact_maps
from ..layer.precision import without_autocast
from ..residue.intent.evidence import four_ways, intent_features, intent_score, units_of
from ..residue.intent.random_changes import randomly_changed
from ..residue.intent.ratio import fit_ratio
from ..residue.intent.sample import layer_inputs, least_values, measure_inputs, merge_inputs
from ..residue.intent.shapes import Direction, filter_shaped
from ..residue.intent.simulation import simulate
from ..residue.statistics import convolution_of
from .intent_gradient import LayerGradient
from .residue import ViyogResidue

__all__ = ["ViyogIntent"]

# samples at once
_CHUNK = 32


class ViyogIntent(ViyogResidue):
    """
    Tells attacks from benign changes, by the same reading as
    :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue`.

    A gradient attack moves pixels along the sign of :math:`W^\\top g`: its gradient came back
    through the first layer, and so its residue has the colour of the layer's own filters.
    Sensor noise is white or follows brightness, sharpening follows edges, codecs have grids.

    From ID images alone, two kinds of images are made: some with *attack-shaped residues*
    :math:`A`, at each strength of ``eps``,

    - ``"filters"``: :math:`\\epsilon \\cdot \\mathrm{sign}(W^\\top * m)` with sparse random maps
      :math:`m`, in one step or several, or in proportion to :math:`W^\\top * m`
    - ``"gradients"``: the same with the model's own gradients, towards the answer that it gives

    and some with *benign changes* :math:`B`
    (:data:`~pytorch_ood_viyog.residue.intent.simulation.SIMULATED`), all of them clipped and
    rounded to 8 bit. The features are those of :class:`ViyogResidue` and how white the responses
    are in the flattest places, see
    :func:`~pytorch_ood_viyog.residue.intent.whiteness.whiteness`. The score is

    .. math::
        s(x) = \\frac{1}{d} \\ln \\frac{p(f | A)}{p(f | B)}

    with Gaussians of one covariance, see
    :class:`~pytorch_ood_viyog.residue.intent.ratio.IntentRatio`.

    **Sign.** Larger scores speak for an attack, smaller ones for a benign change; 0 is undecided.

    **When to use.** Beside :class:`ViyogResidue`, which says whether there is a residue at all:
    clean images, ID or OOD, have none to judge, and their scores say little.
    :class:`~pytorch_ood_viyog.triage.triage.Triage` asks both.

    Fitting simulates some forty changes on each of ``sample_size`` ID images, which takes some
    seconds for images of 32 px and minutes for 224 px.

    .. rubric:: Examples

    .. code-block:: python

        intent = ViyogIntent(model).fit(train_loader)
        scores = intent(images)          # above 0: shaped as an attack

    :see: new in this package
    """

    hyperparameter_space: ClassVar[dict[str, list[object]]] = {"directions": [8, 16, 24]}

    def __init__(
        self,
        model: Module | None,
        *,
        layer: str | Module | None = None,
        residues: Literal["filters", "gradients"] = "filters",
        eps: Sequence[float] = (1 / 255, 2 / 255, 4 / 255, 8 / 255),
        input_range: float | Sequence[float] | None = None,
        directions: int = 16,
        sample_size: int = 256,
        seed: int = 0,
    ):
        """
        :param model: as for :class:`ViyogResidue`
        :param layer: as for :class:`ViyogResidue`
        :param residues: what shapes the residues: the layer's own ``"filters"``, or the model's
            ``"gradients"``, one or three backward passes for each ID image and strength at fit
        :param eps: strengths of the residues, as fractions of the input's dynamic range
        :param input_range: as for :class:`ViyogResidue`
        :param directions: as for :class:`ViyogResidue`
        :param sample_size: number of ID images that changes are simulated on
        :param seed: seed of the changes and of the choice of ID images
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if a number is out of range, ``layer`` not found, ``residues`` unknown,
            or gradients are asked for without a model
        :raises RuntimeError: if the model has no convolution and no layer is named
        """
        if residues not in ("filters", "gradients"):
            raise ValueError(f"residues must be 'filters' or 'gradients', got {residues!r}.")
        super().__init__(
            model,
            layer=layer,
            eps=eps,
            input_range=input_range,
            directions=directions,
            sample_size=sample_size,
            seed=seed,
        )
        self.residues = residues

    # -- fit --------------------------------------------------------------------------------

    _saved_shapes: ClassVar[dict[str, str]] = ViyogResidue._saved_shapes | {
        "low": "I",
        "projection": "D G",
        "shaped": "S D",
        "benign": "N D",
        "unit": "",
    }

    def _measure(self, maps: Tensor, inputs: Tensor | None) -> Statistics:
        if inputs is None and self.residues == "gradients":
            raise ValueError(
                "residues='gradients' needs the model's inputs: use fit(), or residues='filters'."
            )
        own = measure_inputs(maps, inputs, self.sample_size, self.seed)
        return super()._measure(maps, inputs) | own

    def _merge(self, one: Statistics, other: Statistics) -> Statistics:
        return super()._merge(one, other) | merge_inputs(one, other, self.sample_size)

    def _conclude(self, statistics: Statistics) -> dict[str, Tensor]:
        state = super()._conclude(statistics)
        with without_autocast(statistics["sample"].device):
            conv = convolution_of(statistics)
            inputs = layer_inputs(conv, statistics)
            state["low"] = least_values(inputs, statistics)
            shaped, benign = self._simulated(conv, inputs, state)
            return state | vars(fit_ratio(shaped, benign))

    def _simulated(
        self, conv: EffectiveConvolution, inputs: Tensor, state: dict[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Features of ID samples with each attack-shaped residue, and with each benign change."""
        directions = self._shapes(conv)
        groups: dict[tuple[bool, str], list[Tensor]] = {}
        for number, part in enumerate(torch.split(inputs, _CHUNK)):
            seed = self.seed + 10000 * number
            simulated = simulate(part, units_of(state), directions, self.eps, seed)
            for is_shaped, name, changed in simulated:
                reading = self._read_seen(changed, state)
                if reading is None:
                    reading = self._read_maps(conv.maps(changed), state)
                groups.setdefault((is_shaped, name), []).append(intent_features(reading, state))
        features = {kind: torch.cat(parts) for kind, parts in groups.items()}
        return (
            [f for (is_shaped, _), f in features.items() if is_shaped],
            [f for (is_shaped, _), f in features.items() if not is_shaped],
        )

    def _shapes(self, conv: EffectiveConvolution) -> dict[str, tuple[Direction, int]]:
        if self.residues == "gradients":
            gradient = LayerGradient(*self._model_and_layer())
            return {
                "one step": (gradient, 1),
                "three steps": (gradient, 3),
                "least": (gradient, 0),
            }
        generator = torch.Generator().manual_seed(self.seed)
        sparse, sparser = (filter_shaped(conv, share, generator) for share in (0.1, 0.05))
        return {"one step": (sparse, 1), "three steps": (sparser, 3), "least": (sparse, 0)}

    def _model_and_layer(self) -> tuple[Module, Module]:
        first_layer = self._require_first_layer()
        return first_layer.model, first_layer.layer()

    # -- predict ----------------------------------------------------------------------------

    def _score(self, maps: Tensor, state: dict[str, Tensor]) -> Tensor:
        return intent_score(self._read_maps(maps, state), state)

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        return intent_score(self._read_call(call, state), state)

    def log_likelihoods(self, x: Tensor) -> Tensor:
        """
        The four-way reading. A residue, which :meth:`ViyogResidue.log_likelihoods` calls ADV, is
        shared between ADV and NOISY by the likelihood ratio :math:`r` of intent:

        .. math::
            \\ln p(ADV) = \\ln p(residue) + \\ln \\sigma(r), \\qquad
            \\ln p(NOISY) = \\ln p(residue) + \\ln \\sigma(-r)

        :param x: batch of model inputs, as for :meth:`predict`
        :return: float64 of shape :math:`B \\times 4`, in the order ID, OOD, ADV, NOISY
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`
        """
        three = super().log_likelihoods(x)
        return four_ways(three, self.predict(x), self._require_state())

    def log_likelihoods_features(self, maps: Tensor) -> Tensor:
        """
        :param maps: first-layer feature maps, as for :meth:`predict_features`
        :return: what :meth:`log_likelihoods` gives
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict_features`
        """
        three = super().log_likelihoods_features(maps)
        return four_ways(three, self.predict_features(maps), self._require_state())

    @torch.no_grad()
    def benign_scores(self, x: Tensor, *, seed: int = 0) -> Tensor:
        """
        Scores of inputs after benign changes, for each a random one of those that were simulated
        at fit: what thresholds are set on.

        :param x: batch of ID inputs, as for :meth:`predict`
        :param seed: seed of the changes
        :return: scores of shape :math:`B`
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`, or if inputs are outside the range that was read
            at fit
        """

        def read(call: LayerCall, state: dict[str, Tensor]) -> Tensor:
            changed = LayerCall(call.layer, randomly_changed(call.input, units_of(state), seed))
            reading = self._read_input(changed, state)
            if reading is None:
                reading = self._read_maps(exact_maps(changed), state)
            return intent_score(reading, state)

        return self._read_at_layer(x, read)
