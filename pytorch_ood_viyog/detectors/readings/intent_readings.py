"""
What ViyogResidue and ViyogIntent learn from simulated attacks and benign changes, and read of it.
"""

from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from ...fitting.fitted import Statistics
from ...layer.layer_call import LayerCall
from ...layer.linear.effective_convolution import EffectiveConvolution
from ...layer.linear.plain_convolution import exact_maps
from ...residue.evidence import hypotheses
from ...residue.intent.behind import Behind
from ...residue.intent.evidence import four_ways, intent_features, intent_score, units_of
from ...residue.intent.layer_gradient import LayerGradient
from ...residue.intent.random_changes import randomly_changed
from ...residue.intent.ratio import fit_ratio
from ...residue.intent.sample import layer_inputs, least_values
from ...residue.intent.shapes import Direction, filter_shaped
from ...residue.intent.simulation import simulate
from ...residue.reader import Reading
from ...residue.statistics import convolution_of
from .verification import VerifiedReadings

__all__ = ["INTENT_SHAPES", "IntentReadings", "Shaping", "checked_shaping"]

#: what shapes the simulated residues of attacks
Shaping = Literal["auto", "filters", "gradients"]

#: shapes of the state that intent adds
INTENT_SHAPES = {
    "low": "I",
    "projection": "D G",
    "shaped": "S D",
    "benign": "N D",
    "unit": "",
    "least_intent": "",
    "by_gradients": "",
}


def _of_most_evidence(call: LayerCall, ways: Tensor) -> Tensor:
    """Of a sample's rows, the one that speaks most for ADV."""
    rest = torch.cat([ways[:, :2], ways[:, 3:]], dim=1)
    return call.of_largest(ways, lambda: ways[:, 2] - rest.logsumexp(dim=1))


# samples at once
_CHUNK = 32
# share of the simulated residues whose intent is below what an attack's nearly always exceeds:
# filters only stand in for a gradient that came through them
_BELOW_LEAST = {"gradients": 0.01, "filters": 0.001}


def checked_shaping(name: str, value: object) -> Shaping:
    """
    :param name: name of the argument
    :param value: what was given
    :return: it
    :raises ValueError: if it is none of the three
    """
    if value == "auto":
        return "auto"
    if value == "filters":
        return "filters"
    if value == "gradients":
        return "gradients"
    raise ValueError(f"{name} must be 'auto', 'filters' or 'gradients', got {value!r}.")


class IntentReadings(VerifiedReadings):
    """Readings of a detector that may have seen, at fit, what attacks and benign changes leave."""

    #: what shapes the residues; ``None`` where nothing is simulated
    intent: Shaping | None
    eps: tuple[float, ...]
    seed: int

    @property
    def shaped_by(self) -> str | None:
        """
        What shaped the residues of the fit, ``"filters"`` or ``"gradients"``: what ``"auto"``
        came to; ``None`` before fitting, and where nothing is simulated.
        """
        found = self._fitted("by_gradients") if self.intent is not None else None
        return None if found is None else ("gradients" if bool(found) else "filters")

    # -- fit --------------------------------------------------------------------------------

    def _concluded_intent(
        self, statistics: Statistics, state: dict[str, Tensor], behind: Behind | None
    ) -> dict[str, Tensor]:
        """What intent adds to the state."""
        conv = convolution_of(statistics)
        inputs = layer_inputs(conv, statistics)
        gradient = self._gradient(inputs) if "inputs" in statistics else None
        known = {"low": least_values(inputs, statistics)}
        shaped, benign = self._simulated(conv, inputs, state | known, gradient, behind)
        below = _BELOW_LEAST["filters" if gradient is None else "gradients"]
        by_gradients = torch.tensor(float(gradient is not None)).to(known["low"])
        ratio = fit_ratio(shaped, benign, below)
        return known | vars(ratio) | {"by_gradients": by_gradients}

    def _gradient(self, inputs: Tensor) -> LayerGradient | None:
        """The model's gradients, if they are to shape residues."""
        if self.intent == "filters" or self._first_layer is None:
            return None
        gradient = LayerGradient(self._first_layer.model, self._first_layer.layer())
        if self.intent == "auto":
            try:
                gradient(inputs[:1], inputs[:1])
            except RuntimeError:
                return None
        return gradient

    def _simulated(
        self,
        conv: EffectiveConvolution,
        inputs: Tensor,
        state: dict[str, Tensor],
        gradient: LayerGradient | None,
        behind: Behind | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Features of ID samples with each attack-shaped residue, and with each benign change."""
        directions = self._directions_of_attacks(conv, gradient)
        groups: dict[tuple[bool, str], list[Tensor]] = {}
        parts = torch.split(inputs, _CHUNK)
        hidden = None if self._progress else True
        for number, part in enumerate(
            tqdm(parts, desc="simulate", leave=False, delay=1, disable=hidden)
        ):
            seed = self.seed + 10000 * number
            simulated = simulate(part, units_of(state), directions, self.eps, seed)
            for is_shaped, name, changed in simulated:
                if behind is not None:
                    changed = behind.inputs(behind.units.to_unit(changed), number)
                reading = self._read_simulated(conv, changed, state)
                groups.setdefault((is_shaped, name), []).append(intent_features(reading, state))
        features = {kind: torch.cat(parts) for kind, parts in groups.items()}
        return (
            [f for (is_shaped, _), f in features.items() if is_shaped],
            [f for (is_shaped, _), f in features.items() if not is_shaped],
        )

    def _directions_of_attacks(
        self, conv: EffectiveConvolution, gradient: LayerGradient | None
    ) -> dict[str, tuple[Direction, int]]:
        if gradient is not None:
            sparse = sparser = gradient  # type: Direction
        else:
            generator = torch.Generator().manual_seed(self.seed)
            sparse, sparser = (filter_shaped(conv, share, generator) for share in (0.1, 0.05))
        return {"one step": (sparse, 1), "three steps": (sparser, 3), "least": (sparse, 0)}

    # -- predict ----------------------------------------------------------------------------

    def log_likelihoods(self, x: Tensor) -> Tensor:
        """
        The reading behind the score: log-likelihoods of ID, OOD and ADV, up to one constant; with
        intent also of NOISY. A residue is then shared between ADV and NOISY by the likelihood
        ratio :math:`r` of intent:

        .. math::
            \\ln p(ADV) = \\ln p(residue) + \\ln \\sigma(r), \\qquad
            \\ln p(NOISY) = \\ln p(residue) + \\ln \\sigma(-r)

        :param x: batch of model inputs, as for :meth:`predict`
        :return: float64 of shape :math:`B \\times 3`, in the order ID, OOD, ADV; with intent
            :math:`B \\times 4`, in the order ID, OOD, ADV, NOISY
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`
        """
        return self._read_at_layer(
            x, lambda call, s: self._ways(self._read_call(call, s), s), _of_most_evidence
        )

    def log_likelihoods_features(self, maps: Tensor) -> Tensor:
        """
        :param maps: first-layer feature maps, as for :meth:`predict_features`
        :return: what :meth:`log_likelihoods` gives
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict_features`
        """
        return self._read_from_maps(maps, self._ways)

    def _ways(self, reading: Reading, state: dict[str, Tensor]) -> Tensor:
        three = hypotheses(reading.features, state, self._settings)
        if self.intent is None:
            return three
        return four_ways(three, intent_score(reading, state), state)

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
            at fit, or the detector was fitted without intent
        """
        if self.intent is None:
            raise ValueError("benign_scores() needs what intent simulates: pass intent='auto'.")

        def read(call: LayerCall, state: dict[str, Tensor]) -> Tensor:
            changed = LayerCall(call.layer, randomly_changed(call.input, units_of(state), seed))
            reading = self._read_input(changed, state)
            if reading is None:
                reading = self._read_maps(exact_maps(changed), state)
            return self._score_reading(reading, state)

        return self._read_at_layer(x, read)
