"""
The settings of ViyogResidue that may change, and the parts that it was fitted to.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from ...images.ways import Through, checked_through
from ...layer.checks import check_count, check_number
from ...residue.evidence import Settings
from .residue_at_layer import ResidueAtLayer

__all__ = ["ResidueParts"]


class ResidueParts(ResidueAtLayer):
    """Shows settings and fitted parts of a detector that scores by features of a noise floor."""

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
    def through(self) -> Through | None:
        """The way between attacker and model, ways as their names; ``None``: nothing."""
        return self._through

    @through.setter
    def through(self, value: Through | None) -> None:
        self._through = None if value is None else checked_through(value)

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
