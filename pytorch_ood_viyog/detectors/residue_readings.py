"""
What ViyogResidue shows beside its score: hypotheses, noise floors of images and of their parts,
and the maps without their residue.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from ..layer.layer_call import LayerCall
from ..layer.linear.flat_axes import without_flat_axes
from ..layer.manners import warn_user
from ..residue.evidence import (
    Settings,
    floor_is_known,
    hypotheses,
    log_odds,
    noise_floor,
    reader_of,
)
from ..residue.maps import duals, energy_in, purified_maps
from ..residue.reader import Reading
from ..residue.regions import floor_map
from .residue_at_layer import ResidueAtLayer

__all__ = ["ResidueReadings"]

# half a grey level in 255: less may be rounding in another order
_FOREIGN = 0.5 / 255


class ResidueReadings(ResidueAtLayer):
    """
    Readings of a detector that scores by features of a noise floor. All that take ``x`` take it,
    and raise errors, as ``predict`` does.
    """

    # -- what a detector adds ---------------------------------------------------------------

    @property
    @abstractmethod
    def _settings(self) -> Settings:
        """What the mathematics needs of the arguments."""

    @abstractmethod
    def _score_reading(self, reading: Reading, state: dict[str, Tensor]) -> Tensor:
        """Scores of shape :math:`B`."""

    # -- scores -----------------------------------------------------------------------------

    def _score(self, maps: Tensor, state: dict[str, Tensor]) -> Tensor:
        return self._score_reading(self._read_maps(maps, state), state)

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        if self._first_layer is not None and len(state["empty"]) > 0:
            self._warn_of_foreign(call, state)
        return self._score_reading(self._read_call(call, state), state)

    def _warn_of_foreign(self, call: LayerCall, state: dict[str, Tensor]) -> None:
        foreign = int((self._foreign(call, state) > _FOREIGN).sum())
        if foreign:
            warn_user(
                f"{foreign} of {len(call.input)} inputs show something in {len(state['empty'])} "
                f"directions that all ID images leave exactly empty (as colour is to grey "
                f"images): they are not of the ID kind. "
                f"{type(self).__name__}.foreign_energy(x) tells how much.",
            )

    def _foreign(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        return energy_in(state["empty"], self._maps_at(call), state["mean"])

    # -- of the fit -------------------------------------------------------------------------

    @property
    def noise_directions(self) -> Tensor | None:
        """
        The local directions :math:`u`, quietest first, as rows: :math:`M \\times C`. The first
        ``directions`` of them are read one by one, all of them in bands. ``None`` before fitting.
        """
        return self._fitted("local")

    @property
    def least_adv(self) -> float | None:
        """
        The score below which an input is no attack worth the name: of held-out ID samples with
        the residue of the middle strength of ``eps`` (of two, the smaller: 2/255 by default),
        99 % score higher, and as many with each stronger residue. Attacks of twice the middle
        strength are to be found; they do not use all of it at every pixel.
        """
        least = self._fitted("least")
        return None if least is None else float(least[(len(least) - 1) // 2 :].min())

    @property
    def reading_names(self) -> list[str]:
        """What each of the features is that :meth:`readings` gives, in words."""
        return reader_of(self._require_state()).names

    def _fitted(self, name: str) -> Tensor | None:
        return self._require_state()[name] if self._is_fitted else None

    # -- of inputs --------------------------------------------------------------------------

    @torch.no_grad()
    def readings(self, x: Tensor) -> Tensor:
        """
        :param x: batch of model inputs
        :return: the features that scores are made of, float64 of shape :math:`B \\times F`
        """
        return self._read_at_layer(x, lambda call, state: self._read_call(call, state).features)

    @torch.no_grad()
    def log_likelihoods(self, x: Tensor) -> Tensor:
        """
        The reading behind the score: log-likelihoods of ID, OOD and ADV, up to one constant.

        :param x: batch of model inputs
        :return: float64 of shape :math:`B \\times 3`, in the order ID, OOD, ADV
        """
        return self._read_at_layer(
            x,
            lambda call, s: hypotheses(self._read_call(call, s).features, s, self._settings),
            lambda call, ways: call.of_largest(ways, lambda: log_odds(ways)),
        )

    @torch.no_grad()
    def noise_floor(self, x: Tensor) -> Tensor:
        """
        Estimated strength of the perturbation of each sample, beyond what ID images show: the
        median over the local directions of

        .. math::
            \\sqrt{\\max(0,\\ \\mathrm{median}(z^2) - \\mathrm{median}_{ID}(z^2))\\, /\\, 0.4549}

        :param x: batch of model inputs
        :return: strengths of shape :math:`B`, as fractions of the input's dynamic range, like
            ``eps``: 5/255 for a residue of 5 grey levels in 255; NaN, with a warning, where ID
            images themselves leave no direction quiet
        """
        floors = self._read_at_layer(x, self._floors, reduce=lambda call, values: values)
        if floor_is_known(self._require_state()):
            return floors
        warn_user(
            "ID images leave no direction of this layer quiet, so that the strength of a residue "
            "cannot be told: noise floors are NaN. Scores are not affected.",
        )
        return torch.full_like(floors, torch.nan)

    def _floors(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        reading = self._read_call(call, state)
        floors = noise_floor(reading.features, state)[:, None]
        # of many small rows, the largest floor is the one that is furthest off
        return call.of_largest(floors, lambda: self._score_reading(reading, state))[:, 0]

    @torch.no_grad()
    def residue_map(self, x: Tensor) -> Tensor:
        """
        Local noise floor: the strength of a residue in each of 8 × 8 overlapping regions, fewer
        on maps of less than 16 positions along an axis, see
        :func:`~pytorch_ood_viyog.residue.regions.floor_map`. Cell :math:`i` of :math:`H'`
        stands for the part from :math:`i / H'` to :math:`(i + 1) / H'` of the image and sees
        half a cell more on each side. Texture that is rougher than the median ID position counts
        as a residue.

        :param x: batch of model inputs
        :return: strengths of shape :math:`B \\times *H'`, one axis for each of the maps' that
            is longer than 1, as fractions of the input's dynamic range, like ``eps``; of a model
            that reads several frames or views of a sample :math:`B \\times m \\times *H'`, a map
            for each
        """
        return self._read_at_layer(
            x,
            lambda call, s: floor_map(self._read_call(call, s), reader_of(s), s["means"]),
            LayerCall.grouped,
        )

    @torch.no_grad()
    def flat_share(self, x: Tensor) -> Tensor:
        """
        Share of the windows that are constant, as the bars of a letterbox are: they are left out
        of what is read.

        :param x: batch of model inputs
        :return: shares of shape :math:`B`; above 0.9, the image cannot be read
        """

        def read(call: LayerCall, state: dict[str, Tensor]) -> Tensor:
            return self._read_call(call, state).flat.flatten(1).double().mean(dim=1)

        return self._read_at_layer(x, read)

    @torch.no_grad()
    def foreign_energy(self, x: Tensor) -> Tensor:
        """
        What an input shows where all ID images show nothing at all, as colour is to a detector
        that was fitted on grey images: root mean square over the directions that ID images leave
        empty to rounding. Not part of the score: such an input is not of the ID kind, whether it
        was attacked or not.

        :param x: batch of model inputs
        :return: strengths of shape :math:`B`, as fractions of the input's dynamic range; 0 where
            no direction is empty
        """
        return self._read_at_layer(x, self._foreign)

    # -- inside a pass that somebody else runs: a second look, a deployed module ------------

    def noise_floor_at(self, call: LayerCall, state: dict[str, Tensor] | None = None) -> Tensor:
        """:return: :meth:`noise_floor` at the layer, by the fitted state or by a module's own"""
        state = self._require_state() if state is None else state
        self._warn_of_other_kind(call.input, state)
        return self._floors(call, state)

    def noise_duals(self, call: LayerCall) -> Tensor:
        """
        :return: what takes responses in :attr:`noise_directions` back to the maps, see
            :func:`~pytorch_ood_viyog.residue.maps.duals`
        """
        state = self._require_state()
        maps = call.maps()
        conv = self._known_layer.describe(call.layer, call.input, maps)
        conv, _, _ = without_flat_axes(conv, call.input, maps)
        return duals(conv.kernel, state["scale"], state["local"])

    def purified_maps_at(
        self,
        call: LayerCall,
        duals: Tensor,
        strengths: Tensor,
        state: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """
        :return: the layer's maps without responses of these strengths, one a sample, see
            :func:`~pytorch_ood_viyog.residue.maps.purified_maps`
        """
        state = self._require_state() if state is None else state
        strengths = strengths if call.rows is None else call.rows.spread(strengths)
        return purified_maps(call.maps(), state["mean"], state["local"], duals, strengths)
