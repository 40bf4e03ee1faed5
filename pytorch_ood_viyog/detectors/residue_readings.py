"""
What ViyogResidue shows beside its score: its settings, fitted parts and noise floors.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ..layer.checks import check_count, check_finite, check_maps, check_number
from ..layer.layer_call import LayerCall
from ..layer.linear.known_layer import KnownLayer
from ..residue.evidence import Settings, noise_floor, reader_of
from ..residue.local import floor_map
from ..residue.purified_maps import duals, purified_maps
from ..residue.reader import Reading
from .residue_at_layer import ResidueAtLayer

__all__ = ["ResidueReadings"]


class ResidueReadings(ResidueAtLayer):
    """Readings of a detector that scores by features of a noise floor."""

    _known_layer: KnownLayer

    @property
    @abstractmethod
    def _settings(self) -> Settings:
        """What the mathematics needs of the arguments."""

    @property
    def directions(self) -> int:
        """Number of directions of each kind."""
        return self._directions

    @directions.setter
    def directions(self, value: int) -> None:
        self._directions = check_count("directions", value, low=1)

    @property
    def kappa(self) -> float:
        """How much wider than ID and ADV anything else is."""
        return self._kappa

    @kappa.setter
    def kappa(self, value: float) -> None:
        self._kappa = check_number("kappa", value, low=1.0)

    @property
    def shrinkage(self) -> float | None:
        """Share of the covariance that is shrunk to its diagonal; ``None``: by the data's size."""
        return self._shrinkage

    @shrinkage.setter
    def shrinkage(self, value: float | None) -> None:
        given = None if value is None else check_number("shrinkage", value, low=0.0, high=1.0)
        self._shrinkage = given

    @property
    def noise_directions(self) -> Tensor | None:
        """
        The local directions :math:`u`, quietest first, as rows: :math:`M \\times C`. The first
        ``directions`` of them are read one by one, all of them in bands.
        """
        return self._fitted("local")

    @property
    def window_directions(self) -> Tensor | None:
        """
        Directions in a window, :math:`R \\times W \\times 3 \\times \\dots`, as weights of the
        responses of the first :math:`W` of :attr:`noise_directions` at its positions; all of them,
        where there are positions enough to learn from.
        """
        return self._fitted("window")

    @property
    def eigenvalues(self) -> Tensor | None:
        """
        :math:`\\lambda` of the local directions, then of those in a window, shape :math:`M + R`:
        natural energy per unit of noise gain, in units of the squared dynamic range.
        """
        return self._fitted("energies")

    @property
    def means(self) -> Tensor | None:
        """
        Centres of the hypotheses, one a row: ID, ID with each residue of ``eps``, ID with
        residues beyond the budget. Columns: 10 % quantiles, medians and means of the directions,
        5 %, 25 % and 50 % quantiles of the bands.
        """
        return self._fitted("means")

    @property
    def covariance(self) -> Tensor | None:
        """The shrunk covariance :math:`S` of the features."""
        whitening = self._fitted("whitening")
        return None if whitening is None else torch.linalg.inv(whitening.T @ whitening)

    @property
    def dynamic_range(self) -> Tensor | None:
        """Dynamic range of each channel of the convolution's input, as read or as given."""
        return self._fitted("scale")

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

    def _fitted(self, name: str) -> Tensor | None:
        return self._require_state()[name] if self._is_fitted else None

    def noise_floor(self, x: Tensor) -> Tensor:
        """
        Estimated strength of the perturbation of each sample, beyond what ID images show: the
        median over the local directions of

        .. math::
            \\sqrt{\\max(0,\\ \\mathrm{median}(z^2) - \\mathrm{median}_{ID}(z^2))\\, /\\, 0.4549}

        :param x: batch of model inputs, as for :meth:`predict`
        :return: strengths of shape :math:`B`, as fractions of the input's dynamic range, like
            ``eps``: 5/255 for a residue of 5 grey levels in 255
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`
        """
        return noise_floor(self._input_features(x), self._require_state())

    def noise_floor_features(self, maps: Tensor) -> Tensor:
        """
        :param maps: first-layer feature maps, as for :meth:`predict_features`
        :return: what :meth:`noise_floor` gives
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict_features`
        """
        return noise_floor(self._maps_features(maps), self._require_state())

    def noise_floor_at(self, call: LayerCall, state: dict[str, Tensor] | None = None) -> Tensor:
        """
        :meth:`noise_floor` inside a forward pass that somebody else runs.

        :param call: the moment that the layer runs
        :param state: fitted state, for modules that hold it themselves; default is the detector's
        :return: strengths of shape :math:`B`
        :raises RequiresFittingException: if the detector is not fitted
        """
        state = self._require_state() if state is None else state
        return noise_floor(self._call_features(call, state), state)

    def noise_duals(self, call: LayerCall) -> Tensor:
        """
        What takes responses in :attr:`noise_directions` back to the maps, see
        :func:`~pytorch_ood_viyog.residue.purified_maps.duals`.

        :param call: the moment that the layer runs
        :return: one a row, :math:`M \\times C`
        :raises RequiresFittingException: if the detector is not fitted
        """
        state = self._require_state()
        conv = self._known_layer.describe(call.layer, call.input, call.maps())
        return duals(conv.kernel, state["scale"], state["local"])

    def purified_maps_at(
        self,
        call: LayerCall,
        duals: Tensor,
        strengths: Tensor,
        state: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """
        The layer's maps without their small responses in :attr:`noise_directions`, see
        :func:`~pytorch_ood_viyog.residue.purified_maps.purified_maps`.

        :param call: the moment that the layer runs
        :param duals: what :meth:`noise_duals` gave
        :param strengths: strength of the residue to take out of each sample, as
            :meth:`noise_floor` gives it, shape :math:`B`
        :param state: as for :meth:`noise_floor_at`
        :return: purified maps, :math:`B \\times C \\times *S`
        :raises RequiresFittingException: if the detector is not fitted
        """
        state = self._require_state() if state is None else state
        return purified_maps(call.maps(), state["mean"], state["local"], duals, strengths)

    @torch.no_grad()
    def residue_map(self, x: Tensor) -> Tensor:
        """
        Local noise floor: the strength of a residue in each of 8 × 8 overlapping regions, fewer
        on maps of less than 16 positions along an axis, see
        :func:`~pytorch_ood_viyog.residue.local.regions.floor_map`. Cell :math:`i` of :math:`H'`
        stands for the part from :math:`i / H'` to :math:`(i + 1) / H'` of the image and sees
        half a cell more on each side. Texture that is rougher than the median ID position counts
        as a residue.

        :param x: batch of model inputs, as for :meth:`predict`
        :return: strengths of shape :math:`B \\times *H'`, one axis for each of the input's, as
            fractions of the input's dynamic range, like ``eps``
        :raises ModelNotSetException: if the detector has no model
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict`
        """
        return self._read_at_layer(
            x, lambda call, state: self._floor_map(self._read_call(call, state), state)
        )

    def residue_map_features(self, maps: Tensor) -> Tensor:
        """
        :param maps: first-layer feature maps, as for :meth:`predict_features`
        :return: what :meth:`residue_map` gives
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: as :meth:`predict_features`
        """
        return self._read_from_maps(maps, self._floor_map)

    @staticmethod
    def _floor_map(reading: Reading, state: dict[str, Tensor]) -> Tensor:
        return floor_map(reading, reader_of(state), state["means"])

    @torch.no_grad()
    def _input_features(self, x: Tensor) -> Tensor:
        return self._read_at_layer(x, self._call_features)

    def _maps_features(self, maps: Tensor) -> Tensor:
        return self._read_from_maps(maps, lambda reading, _: reading.features)

    @torch.no_grad()
    def _read_from_maps(
        self, maps: Tensor, read: Callable[[Reading, dict[str, Tensor]], Tensor]
    ) -> Tensor:
        """What ``read`` gives of the reading of checked maps."""
        state = self._require_state()
        maps = self._to_device(check_maps(maps, self._layout))
        values = read(self._read_maps(maps, state), state)
        check_finite("Feature maps", maps, values)
        return values

    def _score(self, maps: Tensor, state: dict[str, Tensor]) -> Tensor:
        return self._score_reading(self._read_maps(maps, state), state)

    def _score_call(self, call: LayerCall, state: dict[str, Tensor]) -> Tensor:
        return self._score_reading(self._read_call(call, state), state)

    @abstractmethod
    def _score_reading(self, reading: Reading, state: dict[str, Tensor]) -> Tensor:
        """Scores of shape :math:`B`."""
