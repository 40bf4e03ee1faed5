"""
SharedForward: many detectors, one forward pass.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from pytorch_ood.api import Detector
from torch import Tensor
from torch.nn import Module
from typing_extensions import Self

from ..detectors.residue import ViyogResidue
from ..fitting.some_images import some_images
from ..layer.batches import batches
from ..layer.checks import check_finite, check_input
from ..layer.layer_call import LayerCall
from ..layer.manners import same_random_state, unwrap
from ..looks.logits import PickLogits
from .feeding import Panel
from .shared_fit import fit_together, give_layer
from .shared_pass import ReadFirstLayer, Representations, SharedPass, common_layer

__all__ = ["SharedForward"]


class SharedForward:
    """
    Runs a model once per batch and feeds all detectors from that pass: logits detectors the
    model's output, feature detectors the penultimate features, first-layer detectors the raw maps
    of the first convolution. The scores are those of each detector's own ``predict``.

    Detectors are built with ``None`` in place of model or encoder, or with this very model; an
    encoder of their own must give the same features, which is checked on the first batch.
    Detectors that ask the model again (:class:`~pytorch_ood_viyog.looks.second_look.SecondLook`)
    take the pass for their first answer, and a :class:`ViyogResidue` of the pipeline for their
    noise floor. Detectors that need gradients, several layers or the raw input are refused,
    unless they are named in ``separate``: they then run by themselves, with the passes that this
    takes.

    Logits and features for fitting are collected in CPU memory (:math:`N \\times D`);
    first-layer maps are consumed batch by batch inside the pass.

    .. rubric:: Examples

    .. code-block:: python

        pipeline = SharedForward(
            model, {"energy": EnergyBased(None), "knn": KNN(None), "tv": ViyogTV(None)}
        )
        pipeline.fit(train_loader)
        scores = pipeline.predict(images)["tv"]
        table = pipeline.score(test_loader)
    """

    def __init__(
        self,
        model: Module,
        detectors: Mapping[str, Detector],
        *,
        layer: str | Module | None = None,
        head: str | Module | None = None,
        feature_maps: str | Module | None = None,
        logits: PickLogits | None = None,
        separate: Collection[str] = (),
    ):
        """
        :param model: model that all detectors judge
        :param detectors: detectors by name
        :param layer: first layer to read, as dotted name or module; default is what the
            detectors name, else the first convolution that executes
        :param head: layer whose input are the features; default is the ``Linear``, or 1×1
            convolution of pooled features, whose output becomes the logits
        :param feature_maps: layer whose output pytorch-ood's feature-map detectors (ASH, ReAct,
            ...) take; without it they are refused
        :param logits: picks the logits out of the model's output, for models that return a
            tuple or a dictionary
        :param separate: names of detectors that run by themselves
        :raises TypeError: if a detector cannot be fed from the pass, with the reason
        :raises ValueError: if names or layers do not fit together, or a first-layer detector has
            another model
        """
        if not isinstance(model, Module):
            raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
        self.model = model
        self._panel = Panel(model, detectors, separate, feature_maps is not None)
        self._pass = SharedPass(
            model,
            layer=common_layer(model, layer, self._panel.first_layer),
            head=head,
            feature_maps=feature_maps,
            logits=logits,
        )
        residues = [d.fits for d in self._panel.first_layer.values()]
        shared = next((each for each in residues if isinstance(each, ViyogResidue)), None)
        for name in self._panel.looks:
            self[name].attach(model, self._pass.layer_name, logits, shared)

    @property
    def detectors(self) -> dict[str, Detector]:
        """The detectors by name."""
        return self._panel.detectors

    # -- fit --------------------------------------------------------------------------------

    def fit(
        self,
        data_loader: Iterable[Any],
        *,
        names: Collection[str] | None = None,
        progress: bool = True,
        max_images: int | None = None,
    ) -> Self:
        """
        Fit the detectors to ID data in one pass (and one more for each separate one).

        :param data_loader: yields ``(x, y)`` or ``(x, y, ...)``; samples with label :math:`< 0`
            are left out. Plain tensors are enough where only first-layer detectors need a fit.
        :param names: the detectors to fit; default is all that require it
        :param progress: show a progress bar where the pass takes more than a second
        :param max_images: as for :meth:`ViyogResidue.fit`; chosen with seed 0
        :return: the fitted pipeline
        :raises ValueError: if there are no ID samples, no labels, or NaN or inf in the data
        :raises RuntimeError: if a detector's own fit fails

        After an error, all detectors are as they were.
        """
        chosen = self.detectors if names is None else {name: self[name] for name in names}
        images = some_images(data_loader, max_images, seed=0)
        fit_together(self._panel, self._pass, chosen, images, progress)
        return self

    # -- predict ----------------------------------------------------------------------------

    def predict(self, x: Tensor, *, logits: bool = False) -> dict[str, Tensor]:
        """
        Scores of all detectors for one batch.

        :param x: batch of model inputs, first dimension :math:`B`
        :param logits: also give the model's logits, shape :math:`B \\times C`, as ``"logits"``
        :return: name of the detector -> scores of shape :math:`B`
        :raises RequiresFittingException: if a detector is not fitted
        :raises ValueError: if ``x`` is not finite, or scores do not have the shape :math:`B`
        """
        scores, seen = self.run(x, {"logits"} if logits else ())
        return scores | {"logits": seen.logits} if seen.logits is not None and logits else scores

    def run(
        self, x: Tensor, wanted: Collection[str] = (), read: ReadFirstLayer | None = None
    ) -> tuple[dict[str, Tensor], Representations]:
        """
        One pass that also gives what others than the detectors want to see of it.

        :param x: batch of model inputs, first dimension :math:`B`
        :param wanted: names of fields of :class:`Representations`
        :param read: called inside the pass with the first layer, after the detectors
        :return: as :meth:`predict`, and the representations that were asked for
        :raises RequiresFittingException: if a detector is not fitted
        :raises ValueError: if ``x`` is not finite, or scores do not have the shape :math:`B`
        """
        x = check_input(x).to(self._pass.device)
        panel = self._panel
        scores: dict[str, Tensor] = {}
        states = {name: panel.state(name) for name in panel.first_layer}

        def read_layer(call: LayerCall) -> None:
            for name, detector in panel.first_layer.items():
                give_layer(detector.fits, call)
                detector._warn_of_other_kind(call.input, states[name])
            for name, detector in panel.first_layer.items():
                scores[name] = call.largest(detector._score_call(call, states[name]))
            if read is not None:
                read(call)

        asked = panel.wanted(panel.fed) | set(wanted)
        seen = self._pass.run(x, asked, read_layer if states or read is not None else None)
        check_finite("Input", x, *scores.values())
        panel.check_own(panel.fed, x, seen)
        for name in self.detectors:
            if name not in scores:
                scores[name] = panel.score(name, x, seen)
            if scores[name].shape != x.shape[:1]:
                raise ValueError(
                    f"Detector {name!r} must give one score per sample, got shape "
                    f"{tuple(scores[name].shape)} for inputs of shape {tuple(x.shape)}."
                )
        return {name: scores[name] for name in self.detectors}, seen

    def score(self, data_loader: Iterable[Any], *, progress: bool = True) -> dict[str, Tensor]:
        """
        Scores of all detectors for all samples of a loader.

        :param data_loader: yields tensors, ``(x, y)`` or ``(x, y, ...)``; OOD samples are kept
        :param progress: show a progress bar where the pass takes more than a second
        :return: name of the detector -> scores of shape :math:`N`, on the CPU, and with them
            ``"logits"`` and, where the loader gives them, ``"labels"``
        :raises ValueError: if the loader is empty, or as :meth:`predict`
        """
        parts: dict[str, list[Tensor]] = {}
        with same_random_state(self.model):
            for x, y in batches(data_loader, "score", progress):
                labels = {} if y is None else {"labels": torch.as_tensor(y)}
                for name, values in (self.predict(x, logits=True) | labels).items():
                    parts.setdefault(name, []).append(values.cpu())
        if not parts:
            raise ValueError("data_loader is empty.")
        return {name: torch.cat(values) for name, values in parts.items()}

    def unfitted(self, x: Tensor) -> list[str]:
        """
        pytorch-ood has no common mark of a fitted detector, so each is tried on a batch.

        :param x: batch of model inputs
        :return: names of the detectors that require fitting and do not score ``x``
        """
        x, panel = check_input(x).to(self._pass.device), self._panel
        seen = self._pass.run(x, panel.wanted(panel.fed)) if panel.fed else Representations()

        def scores_nothing(name: str) -> bool:
            try:
                panel.state(name) if name in panel.first_layer else panel.score(name, x, seen)
            except Exception:  # some unfitted detectors stumble over their own None
                return True
            return False

        return [
            name for name, d in self.detectors.items() if d.requires_fit and scores_nothing(name)
        ]

    def __getitem__(self, name: str) -> Detector:
        if name not in self.detectors:
            raise KeyError(f"No detector named {name!r}; there are {list(self.detectors)}.")
        return self.detectors[name]

    def __repr__(self) -> str:
        kinds = ", ".join(f"{name}={type(d).__name__}" for name, d in self.detectors.items())
        return f"SharedForward(model={type(unwrap(self.model)).__name__}, {kinds})"
