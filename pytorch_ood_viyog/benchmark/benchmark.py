"""
AdversarialBenchmark: ID, OOD and adversarial images, every detector on all tasks.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pytorch_ood.api import BenchmarkInfo, Detector, Task
from torch.utils.data import DataLoader

from ..detectors.base import PAPER
from ..evaluation.rows import Row
from ..layer.manners import as_found, same_random_state, warn_user
from .attacks.keys import data_digest, described, model_digest
from .data import first_images
from .output import BenchmarkOutput
from .results import task_rows
from .scoring import Scorer, ScoreStore, score_stores

__all__ = ["AdversarialBenchmark"]

# keyword arguments of a loader that are about the order or leave something out
_ORDER = ("shuffle", "sampler", "batch_sampler", "drop_last")


class AdversarialBenchmark(BenchmarkOutput):
    """
    How well detectors tell in-distribution (ID), out-of-distribution (OOD) and adversarial (ADV)
    inputs of a classifier apart, for every OOD set and every attack:

    - ``T1`` ID-vs-OOD, OOD is the positive class
    - ``T2`` ID-vs-ADV, ADV is the positive class
    - ``T3`` OOD-vs-ADV, ADV is the positive class
    - ``T4`` benign-vs-ADV: ID images that somebody changed without meaning harm are not
      adversarial; ADV is the positive class

    **Direction.** Scores are taken as they are and no AUROC is folded. For OOD detectors larger
    means more anomalous; for the Viyog detectors larger means more adversarial, lower more OOD,
    so that an AUROC below 0.5 on T1 is what they are made for.

    **Images** are in [0, 1], any normalisation is part of the model. All are rounded to 8 bit. An
    attack starts from the ID test images that the model classifies correctly, and counts only
    where the rounded image is misclassified; see
    :func:`~pytorch_ood_viyog.benchmark.attacks.craft.craft_of`.

    **Attacks** are what their libraries make, see
    :func:`~pytorch_ood_viyog.benchmark.attacks.as_attack.as_attack`, or any callable
    ``(model, x, y) -> x_adv``. One that fails is a row that says why. Whatever it does, the model
    is judged in evaluation mode and given back as found.

    **Nothing is lost.** With a ``cache``, attacked images and scores are stored as they come; a
    run that was killed goes on where it stopped, though detectors are fitted again.

    As a ``pytorch_ood.benchmark.Benchmark`` it has a data set for every OOD set and every attack,
    in the order of ``ood_names``, in which the anomalies have the label -1.

    .. rubric:: Examples

    .. code-block:: python

        bench = AdversarialBenchmark(
            model, id_test, {"aerial": aerial, "mri": mri}, {"pgd8": pgd}, id_train=id_train
        )
        rows = bench.evaluate([MaxSoftmax(model), ViyogTV(model)], fit=True)
        bench.save("results/mine")
        bench.plot("results/mine")
        bench.report("results/mine.html")
    """

    info = BenchmarkInfo(paper=PAPER, tasks={Task.CLASSIFICATION}, ai_coded=True)

    def evaluate(
        self,
        detector: Detector | Sequence[Detector] | Mapping[str, Detector],
        loader_kwargs: Mapping[str, Any] | None = None,
        device: str | torch.device | None = None,
        *,
        fit: bool = False,
    ) -> list[Row]:
        """
        Score all images with all detectors and compare the scores.

        A detector, an attack or a data set that fails has NaN for metrics and the message in the
        field ``Error``, in the rows it fails for; the others go on. The model is in evaluation
        mode meanwhile.

        :param detector: one, several, or several by name. Without names a detector has the name
            of its class, with a number from the second of a class on.
        :param loader_kwargs: keyword arguments for :class:`torch.utils.data.DataLoader`. What
            they say of the order counts for the fit alone: scoring is in order and whole.
        :param device: device to move model and detectors to; default is where the model is
        :param fit: fit the detectors to :meth:`train_set` first
        :return: a dictionary for every detector, task, OOD set and attack: ``Detector``, ``Task``,
            ``Dataset`` (OOD set or benign change), ``Attack``, numbers of samples, metrics as
            pytorch-ood names them (OUT is the positive class) with the ends of their intervals,
            size of the attack, ``SecondsPerImage`` of the detector by itself, ``FitSeconds`` and
            ``Error``
        :raises TypeError: if there is something else than detectors
        :raises ValueError: if there are no detectors, images or labels are not what they should
            be, or the model is right on too few images to attack
        """
        named = _named(detector)
        if device is not None:
            self.model.to(device)
        fitting = dict(loader_kwargs or {})
        scoring = {"batch_size": self.batch_size} | fitting
        scoring = {name: value for name, value in scoring.items() if name not in _ORDER}
        if "batch_sampler" not in fitting:
            fitting["batch_size"] = scoring["batch_size"]
        with same_random_state(self.model):
            accuracy = self._check(fit)
            sizes = self.attack_sizes()
            scorer = Scorer(
                self.model, named, seed=self.seed, progress=self.progress, logits=self.logits
            )
            stores = self._stores(named, fitting if fit else None, scoring["batch_size"])
            if fit:
                scorer.fit(DataLoader(self.train_set(), **fitting))
            scorer.time(first_images(self.id_test, self.batch_size)[0])
            for name in ["ID", *self.ood_names, *self.benign]:
                scorer.score(name, partial(self._images, name), scoring, stores)
        self.detectors, self.scores = named, scorer.scores
        self.rows = task_rows(
            scorer.scores,
            list(self.ood),
            sizes,
            benign=list(self.benign),
            resamples=self.resamples,
            seed=self.seed,
            costs=scorer.costs(),
            accuracy=accuracy,
            min_images=self.min_images,
            progress=self.progress,
        )
        return self.rows

    def _stores(
        self, detectors: Mapping[str, Detector], fitting: Mapping[str, Any] | None, size: int
    ) -> Callable[[Any], ScoreStore] | None:
        """Where scores are kept; made before the fit, which changes what detectors are."""
        if self.cache is None:
            return None
        try:
            fit = fitting and f"{data_digest(self.train_set())} {described(fitting)}"
            settings = f"{fit} {size} {self.seed}"
            with as_found(self.model):
                belongs_to = model_digest(self._classifier, self.id_test, settings)
        except Exception as error:  # no logits, or data that cannot be read: told elsewhere
            warn_user(f"Scores are not kept for another run: {error}")
            return None
        return score_stores(self.cache, self.model, detectors, belongs_to)


def _named(detector: Any) -> dict[str, Detector]:
    """Detectors by name; without names that of the class, numbered from the second on."""
    if isinstance(detector, Detector):
        detector = [detector]
    if not isinstance(detector, (Mapping, Sequence)) or not detector:
        raise ValueError(f"detector must be one or several detectors, got {detector!r}.")
    values = list(detector.values()) if isinstance(detector, Mapping) else list(detector)
    strange = [type(value).__name__ for value in values if not isinstance(value, Detector)]
    if strange:
        raise TypeError(f"All detectors must be pytorch_ood.api.Detector, got {strange}.")
    if isinstance(detector, Mapping):
        return dict(detector)
    named: dict[str, Detector] = {}
    for value in values:
        name, number = type(value).__name__, 2
        while name in named:
            name, number = f"{type(value).__name__} ({number})", number + 1
        named[name] = value
    return named
