"""
ViyogIntent: is a residue shaped as an attack's, or did a camera, a codec or an editor leave it?
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torch.nn import Module

from ..images.ways import Through
from ..residue.intent.conclusion import Shaping, checked_shaping
from ..residue.intent.evidence import intent_score
from ..residue.reader import Reading
from .residue import ViyogResidue

__all__ = ["ViyogIntent"]


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
    :class:`~pytorch_ood_viyog.triage.triage.Triage` reads the same features.

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
        residues: Shaping = "auto",
        eps: Sequence[float] = (1 / 255, 2 / 255, 4 / 255, 8 / 255),
        input_range: float | Sequence[float] | None = None,
        directions: int = 16,
        sample_size: int = 256,
        seed: int = 0,
        through: Through | None = None,
    ):
        """
        :param model: as for :class:`ViyogResidue`
        :param layer: as for :class:`ViyogResidue`
        :param residues: what shapes the residues: the layer's own ``"filters"``, or the model's
            ``"gradients"``, nine forward and backward passes for each ID image at fit.
            ``"auto"``: gradients where ``fit`` has a classifier that can be differentiated,
            otherwise filters; :attr:`shaped_by` tells
        :param eps: strengths of the residues, as fractions of the input's dynamic range
        :param input_range: as for :class:`ViyogResidue`
        :param directions: as for :class:`ViyogResidue`
        :param sample_size: number of ID images that changes are simulated on
        :param seed: seed of the changes and of the choice of ID images
        :param through: as for :class:`ViyogResidue`; attacks and benign changes are simulated
            before that way
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if a number is out of range, ``layer`` not found, ``residues`` unknown,
            or gradients are asked for without a model
        :raises RuntimeError: if the model has no convolution and no layer is named
        """
        super().__init__(
            model,
            layer=layer,
            eps=eps,
            input_range=input_range,
            directions=directions,
            sample_size=sample_size,
            seed=seed,
            intent=checked_shaping("residues", residues),
            through=through,
        )

    @property
    def residues(self) -> Shaping:
        """What shapes the residues."""
        return self.intent or "filters"

    def _score_reading(self, reading: Reading, state: dict[str, Tensor]) -> Tensor:
        return intent_score(reading, state)
