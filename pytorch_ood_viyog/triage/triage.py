"""
Triage: a verdict per sample, ID, OOD, ADV or NOISY, learnt from all the evidence.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..detectors.residue import ViyogResidue
from ..fitting.some_images import some_images
from ..images.ways import Through, checked_through
from ..layer.checks import check_count, check_number
from ..looks.logits import Answers
from ..pipeline.feeding import remembered
from ..pipeline.saving import detector_state, load_detector_state
from ..pipeline.shared_forward import SharedForward
from .fitted_triage import FittedTriage
from .report import TriageReport, judged
from .rule.default_evidence import chosen_evidence
from .training import Training
from .verdicts import Verdicts

__all__ = ["Triage"]

# another number where older states cannot be read any more
_VERSION = 7


class Triage(Verdicts):
    """
    Turns evidence into verdicts: answer (ID), abstain or collect (OOD), reject and alert (ADV),
    or answer with care and mend the camera (NOISY).

    **Evidence.** One forward pass gives the scores of detectors (``triage.pipeline.detectors``
    names them), features of the residue, and what the answer itself tells. Where that leaves the
    verdict open, the model is asked again about the image without fine detail, moved and mirrored
    (a *second look*), and how far the answer moves is evidence too.

    **Rule.** A multinomial logistic regression
    (:class:`~pytorch_ood_viyog.triage.rule.rule.Rule`), learnt from four populations that are
    made from ID calibration images alone (see :mod:`~pytorch_ood_viyog.triage.populations`): the
    images as they are; with benign changes; attacked on this very model; and of foreign content.

    **Guarantees.** Thresholds are conformal, on other ID calibration images than the rule was
    learnt from. Whatever the rule, a new ID image raises a false alarm (any verdict but ID) with
    probability at most ``id_fpr``, and an ID image with a benign change of
    :data:`~pytorch_ood_viyog.residue.intent.simulation.SIMULATED` is called ADV with probability
    at most ``noisy_fpr``, on the mean over these changes; of :math:`n` calibration images that
    also choose who is asked again, up to :math:`2 / (n + 1)`. Both hold if new ID images and
    calibration images are exchangeable, and **break** if the model was trained on the calibration
    images, or if ID data drift. Nothing is promised of how many OOD or ADV inputs are found.

    **Cost.** One forward pass, and a second look (three more) at about ``ask_share`` of ID
    images; ``look="always"`` asks about every image, ``"never"`` about none.

    .. rubric:: Examples

    .. code-block:: python

        triage = Triage(model)
        triage.fit(train_loader, calibration_loader)
        verdicts = triage.predict(images)
        odds = triage.posterior(images)
        print(triage.explain(images))
    """

    def __init__(
        self,
        model: Module,
        *,
        evidence: Mapping[str, Detector | None] | None = None,
        id_fpr: float = 0.05,
        noisy_fpr: float = 0.05,
        look: Literal["open", "always", "never"] = "open",
        ask_share: float = 0.075,
        simulate_on: int = 300,
        leave_out: Collection[str] = (),
        through: Through | None = None,
        pixel_range: tuple[Any, Any] | None = None,
        held_out: float = 0.2,
        seed: int = 0,
        **shared: Any,
    ):
        """
        :param model: classifier of images
        :param evidence: detectors by name that are added to the default ones, or take the place
            of those with the same name; ``None`` leaves one out
        :param id_fpr: rate of false alarms on ID images
        :param noisy_fpr: share of ID images with benign changes that may be called ADV
        :param look: when the model is asked again: where the first pass leaves the verdict open,
            always or never
        :param ask_share: share of ID images that it may be asked about again with ``"open"``
        :param simulate_on: number of calibration images that the rule is learnt from, at most
        :param leave_out: populations that are not simulated, by name
        :param through: the way that lies between an attacker and the model, such as a codec, as
            for :class:`~pytorch_ood_viyog.detectors.residue.ViyogResidue`; of several, one is
            drawn for each image. ``fit`` then takes images *before* that way, everything else
            takes images as the model gets them.
        :param pixel_range: black and white of the inputs, one number each or one per channel;
            default is read from the calibration images
        :param held_out: share of the training data to calibrate on where no calibration data are
            given
        :param seed: seed of the simulation and of choices among images
        :param shared: further arguments of
            :class:`~pytorch_ood_viyog.pipeline.shared_forward.SharedForward`: ``layer``,
            ``head``, ``logits``, ``separate``
        :raises TypeError: if the model or a detector is none
        :raises ValueError: if a number is out of range
        """
        if not isinstance(model, Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
        self.through = None if through is None else checked_through(through)
        detectors = chosen_evidence(evidence or {}, model, self.through)
        self.pipeline = SharedForward(model, detectors, **shared)
        self.id_fpr = check_number("id_fpr", id_fpr, low=1e-6, high=0.5)
        self.noisy_fpr = check_number("noisy_fpr", noisy_fpr, low=1e-6, high=0.5)
        if look not in ("open", "always", "never"):
            raise ValueError(f"look must be 'open', 'always' or 'never', got {look!r}.")
        self.look = look
        self.ask_share = check_number("ask_share", ask_share, low=0.0, high=1.0)
        self.simulate_on = check_count("simulate_on", simulate_on, low=10)
        self.leave_out = tuple(leave_out)
        self.pixel_range = pixel_range
        self.held_out = check_number("held_out", held_out, low=1e-3, high=0.999)
        self.seed = check_count("seed", seed, low=0)
        self.residue = next(d for d in detectors.values() if isinstance(d, ViyogResidue))
        self.answers = Answers(model, shared.get("layer"), shared.get("logits"))
        self._fitted = None

    # -- fit --------------------------------------------------------------------------------

    def fit(
        self,
        train_loader: Iterable[Any],
        calibration_loader: Iterable[Any] | None = None,
        *,
        ood: Tensor | Iterable[Any] | None = None,
        adv: Tensor | Iterable[Any] | None = None,
        progress: bool = True,
        max_images: int | None = None,
    ) -> Self:
        """
        Fit the detectors, simulate what can happen to calibration images, learn the rule, and
        set the thresholds. ID data only; samples with label :math:`< 0` are left out.

        :param train_loader: data to fit the detectors on; yields tensors or ``(x, y)``
        :param calibration_loader: ID images that neither the model was trained on nor the
            detectors are fitted to: some to learn the rule from, others to set thresholds on.
            Without it, a share of ``train_loader`` is held out, which keeps the guarantees only
            if the model was not trained on it.
        :param ood: OOD images that you have; they train the rule, and not the guarantees
        :param adv: adversarial images that you have, the same
        :param progress: show what is done, with progress bars
        :param max_images: most images of each of the two that are read, as for
            :meth:`ViyogResidue.fit`
        :return: the fitted triage
        :raises ValueError: if there are too few calibration images; says how many are needed
        :raises TypeError: if the model gives no class logits
        """
        train_loader = some_images(train_loader, max_images, self.seed)
        if calibration_loader is not None:
            calibration_loader = some_images(calibration_loader, max_images, self.seed)
        self._fitted = Training(self, progress).fit(train_loader, calibration_loader, ood, adv)
        return self

    # -- report and state -------------------------------------------------------------------

    def report(
        self,
        id: Tensor | Iterable[Any],
        ood: Tensor | Iterable[Any],
        adv: Tensor | Iterable[Any],
        *,
        noisy: Tensor | Iterable[Any] | None = None,
        progress: bool = True,
    ) -> TriageReport:
        """
        Compare verdicts with the truth.

        :param id: ID inputs, as tensor or loader
        :param ood: OOD inputs
        :param adv: adversarial inputs; count only attacks that fool the model
        :param noisy: ID inputs with benign changes, if they are to be judged
        :param progress: show a progress bar where a pass takes more than a second
        :return: confusion table and what follows from it, with some of the samples; its ``save``
            writes a page
        :raises ValueError: if a class is empty
        """
        return judged(self, id, ood, adv, noisy, progress)

    def state_dict(self) -> dict[str, Any]:
        """
        :return: settings, rule, thresholds and the detectors' fitted state as plain tensors and
            numbers, which ``torch.load(..., weights_only=True)`` reads; the model is left out
        :raises RequiresFittingException: before fitting
        :raises TypeError: if a detector keeps its state in other objects
        """
        fitted = self.fitted.state()
        return {
            "class": "Triage",
            "version": _VERSION,
            "detectors": {n: detector_state(n, d) for n, d in self.pipeline.detectors.items()},
            "settings": {"id_fpr": self.id_fpr, "noisy_fpr": self.noisy_fpr},
            **fitted,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> Self:
        """
        :param state: what :meth:`state_dict` gave, of a triage built alike
        :return: this triage, fitted as the other one was
        :raises ValueError: if it is of an older version, or of other evidence; the triage is
            then as it was
        """
        if state.get("class") != "Triage" or state.get("version") != _VERSION:
            raise ValueError(
                f"state must be of a Triage of version {_VERSION}, got {state.get('class')} of "
                f"version {state.get('version')}. States of older versions cannot be read: fit "
                f"the triage again."
            )
        built, stored = list(self.pipeline.detectors), list(state["detectors"])
        if built != stored:
            raise ValueError(f"state must be of a Triage with the evidence {built}, got {stored}.")
        detectors = self.pipeline.detectors
        restore = [remembered(detector, inside=True) for detector in detectors.values()]
        try:
            found = FittedTriage.of(state, self.residue)
            for name, detector in detectors.items():
                load_detector_state(detector, state["detectors"][name])
        except BaseException as error:
            for each in restore:
                each()
            if isinstance(error, (KeyError, TypeError)):
                raise ValueError(f"state is not whole: {error}. Fit the triage again.") from error
            raise
        self.id_fpr, self.noisy_fpr = (state["settings"][n] for n in ("id_fpr", "noisy_fpr"))
        self.look, self._fitted = state["look"], found
        return self

    def __repr__(self) -> str:
        lines = [
            f"Triage(id_fpr={self.id_fpr:g}, noisy_fpr={self.noisy_fpr:g}, look={self.look!r},",
            f"  evidence={list(self.pipeline.detectors)},",
        ]
        lines += [] if self._fitted is None else [f"  {line}," for line in self._fitted.summary()]
        return "\n".join([*lines, f"  fitted={self._fitted is not None})"])
