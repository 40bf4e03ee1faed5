"""
SecondLook: what would the model have answered without the residue?
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import torch
from pytorch_ood.api import DetectorInfo, Task
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..detectors.residue import ViyogResidue
from ..fitting.checked import Checked
from ..fitting.sampled_inputs import SampledInputs
from ..fitting.some_images import some_images
from ..images.pixel_range import Bound, PixelRange
from ..images.ways import Through, checked_through
from ..layer.batches import batches, id_mask
from ..layer.checks import check_count, check_number
from ..layer.manners import same_random_state
from .fitted_look import FittedLook
from .logits import PickLogits
from .look_readings import LookReadings
from .purification import PURIFIERS, Purification

__all__ = ["SecondLook"]


class SecondLook(LookReadings):
    """
    Takes the residue out of an input and asks the model again. If the answer hangs on the
    residue, the input is adversarial; and the second answer is, often, the true one.

    1. *Strength.* The residue to take out has the standard deviation

       .. math:: \\sigma(x) = \\sigma_0 + f \\cdot \\mathrm{noise\\ floor}(x),

       with the noise floor that :class:`ViyogResidue` reads, in the same forward pass.
    2. *Second answer.* A purifier takes out what is of that strength; the model answers again.
    3. *Evidence.* Of the logits :math:`l, l'` of both answers, the distance of their softmax
       :math:`d`, which sees an answer that tips over, and the log-odds :math:`e` that the first
       answer lost, which do not saturate and so see strong attacks whose answer stays; see
       :mod:`~pytorch_ood_viyog.looks.answers`. Both become surprises among ID samples, see
       :func:`~pytorch_ood_viyog.looks.answers.surprise`, and add up:

    .. math:: s(x) = \\frac{-\\ln p_d - \\ln p_e - m}{v}

    with mean :math:`m` and standard deviation :math:`v` over the ID sample.

    **Sign.** Larger where the answer hangs on the residue, which speaks for ADV. Benign noise
    changes the score little: models are used to it. OOD inputs score between ID and ADV.

    **Purifiers.** ``"bilateral"``, ``"median"``, ``"jpeg"`` and ``"nlm"`` (non-local means) work
    on the input, which must be images; ``"maps"`` removes small responses in quiet directions of
    the first layer's own maps, for any input, as plain tensor code. ``"auto"`` takes the first of
    ``"nlm"``, ``"jpeg"`` and ``"maps"`` that ID answers survive, as strong as they survive it; no
    attack is needed, see :func:`~pytorch_ood_viyog.looks.choice.chosen`.

    **Which answer stands.** The second answer *overrules* the first where it is another class and
    further away than all but ``max_flips`` of ID samples come, so that at most so many ID answers
    are lost, see :func:`~pytorch_ood_viyog.looks.comparison.least_overruling`. :meth:`answer`
    gives what stands; ``compare(x).second`` is the second answer whatever it is.

    **Cost.** Two forward passes and the purifier's own work. Where the first answer is known
    already, as in pipelines and :class:`~pytorch_ood_viyog.triage.triage.Triage`, one.

    Fit it to images that the model was not trained on, where there are enough, or
    :meth:`calibrate` it on some: a model is surer of its training images, and more of its answers
    to new ones change.

    .. rubric:: Examples

    .. code-block:: python

        look = SecondLook(model).fit(train_loader)
        scores = look(images)
        look.calibrate(calibration_loader)         # ID images that are new to the model
        without_residue = look.answer(images).argmax(dim=1)
        print(look.compare(images))

    :see: the idea of comparing answers is from Xu et al., *Feature Squeezing*, NDSS 2018; the
        strength, the choice and the evidence are new in this package
    """

    requires_fit = True
    info = DetectorInfo(paper=None, tasks={Task.CLASSIFICATION}, ai_coded=True)

    hyperparameter_space: ClassVar[dict[str, list[object]]] = {"follow": [0.0, 0.5]}
    #: how much of the measured noise floor is added to the strength
    follow = Checked(partial(check_number, low=0.0, high=100.0))

    def __init__(
        self,
        model: Module | None,
        *,
        purifier: str | Callable[[Tensor], Tensor] = "auto",
        strength: float | None = None,
        follow: float = 0.5,
        max_flips: float = 0.02,
        residue: ViyogResidue | None = None,
        layer: str | Module | None = None,
        logits: PickLogits | None = None,
        pixel_range: tuple[Bound, Bound] | None = None,
        sample_size: int = 256,
        seed: int = 0,
        through: Through | None = None,
    ):
        """
        :param model: classifier; ``None`` where a pipeline gives it
        :param purifier: ``"auto"``, one of the names above, or a function of model inputs
        :param strength: :math:`\\sigma_0` as a fraction of the inputs' range. Default: of those
            that ID answers survive, the one that takes simulated noise out best.
        :param follow: :math:`f`, how much of the measured noise floor is added
        :param max_flips: share of ID answers that may change clearly, half of them with simulated
            noise, and share of ID answers that may be overruled
        :param residue: detector whose noise floor and directions are used, fitted or not; default
            is one of its own
        :param layer: first layer, as for :class:`ViyogResidue`
        :param logits: picks the logits out of the model's output
        :param pixel_range: black and white of the inputs, one number each or one per channel.
            Default: read from the data during ``fit``.
        :param sample_size: number of ID samples that all of it is concluded from; fewer, but at
            least 64, where they would take more than 128 MiB
        :param seed: seed of the choice of ID samples and of the simulated noise
        :param through: the way between attacker and model, as for :class:`ViyogResidue`; ``fit``
            then takes images before that way and chooses by what comes out of it. Default is
            that of ``residue``.
        :raises TypeError: if an argument has the wrong type
        :raises ValueError: if a number is out of range, or a name unknown
        """
        super().__init__(model, layer, logits)
        if not callable(purifier) and purifier not in ("auto", *PURIFIERS):
            raise ValueError(
                f"purifier must be 'auto', one of {list(PURIFIERS)} or a function, got "
                f"{purifier!r}."
            )
        if residue is not None and not isinstance(residue, ViyogResidue):
            raise TypeError(f"residue must be a ViyogResidue, got {type(residue).__name__}.")
        self.purifier = purifier
        self.strength = None if strength is None else check_number("strength", strength, 0.0, 1.0)
        self.follow = follow
        self.max_flips = check_number("max_flips", max_flips, 0.0, 1.0)
        self.residue = residue
        self.pixel_range = pixel_range
        self.sample_size = check_count("sample_size", sample_size, low=2)
        self.seed = check_count("seed", seed, low=0)
        self.through = None if through is None else checked_through(through)

    # -- fit --------------------------------------------------------------------------------

    def fit(
        self, data_loader: Iterable[Any], *, progress: bool = True, max_images: int | None = None
    ) -> Self:
        """
        Fit to ID data: one pass up to the first layer, then some forward passes of the sample to
        choose purifier and strength by.

        :param data_loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``; samples with label
            :math:`< 0` are left out
        :param progress: show a progress bar where the pass takes more than a second
        :param max_images: as for :meth:`ViyogResidue.fit`
        :return: the fitted detector
        :raises ModelNotSetException: if there is no model
        :raises TypeError: if the loader yields something else, or the model gives no class logits
        :raises ValueError: if there are no ID samples, or NaN or inf among them, or the purifier
            cannot take them; the detector then keeps its old state
        :raises ImportError: if the purifier's library is not installed
        """
        answers = self._require_answers()
        chosen_images = some_images(data_loader, max_images, self.seed)
        sampled = SampledInputs(chosen_images, self.sample_size, self.seed)
        residue = self._fitted_residue(sampled, progress)
        with torch.no_grad():
            x = sampled.inputs().to(self.device)
            pixels = PixelRange.of(x, self.pixel_range)
            duals = answers.first_layer.run(x[:2], residue.noise_duals)
            self._fitted = FittedLook.of(
                Purification(answers, residue, pixels, self.follow, duals),
                x,
                self.purifier,
                self.strength,
                self.max_flips,
                self.seed,
                self.through or residue.through,
            )
        return self

    @torch.no_grad()
    def calibrate(self, data_loader: Iterable[Any], *, progress: bool = True) -> Self:
        """
        Read p-values, and which second answers overrule the first, off ID samples that neither
        the model was trained on nor this detector was fitted to. Scores stay as they are.

        :param data_loader: as for :meth:`fit`; 49 samples or more for ``max_flips`` of 2 %
        :param progress: show a progress bar where the pass takes more than a second
        :return: the calibrated detector
        :raises RequiresFittingException: if the detector is not fitted
        :raises ValueError: if there are no ID samples; the detector then keeps its old state
        """
        first, second = [], []
        with same_random_state(self.model):
            for x, y in batches(data_loader, "calibrate", progress):
                known = id_mask(y, x)
                compared = self.compare(x if known is None else x[known])
                first.append(compared.first)
                second.append(compared.second)
        if not sum(map(len, first)):
            raise ValueError(
                "data_loader holds no ID samples: it is empty, or all labels are < 0."
            )
        pair = torch.cat(first), torch.cat(second)
        self._fitted = self.fitted.calibrated(*pair, self.max_flips)
        return self

    def _fitted_residue(self, sampled: SampledInputs, progress: bool) -> ViyogResidue:
        """The user's, fitted now if it is not yet, or a new one of this detector's own."""
        residue = self.residue
        if residue is None or residue.noise_directions is None:
            residue = residue or ViyogResidue(
                self.model, layer=self.layer, seed=self.seed, through=self.through
            )
            return residue.fit(sampled, progress=progress)
        with same_random_state(self.model):
            for _ in sampled:
                pass
        return residue

    def __repr__(self) -> str:
        model = "None" if self.model is None else type(self.model).__name__
        shown = f"purifier={self.purifier!r}, strength={self.strength}, follow={self.follow:g}"
        if self.choice is not None:
            chosen_by = f"{self.choice.purifier!r} at {self.choice.strength * 255:.3g}/255"
            shown += f", chosen={chosen_by}"
        return f"SecondLook(model={model}, {shown}, fitted={self._fitted is not None})"
