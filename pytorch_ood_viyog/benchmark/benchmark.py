"""
AdversarialBenchmark: ID, OOD and adversarial images, every detector on all tasks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_ood.api import BenchmarkInfo, Detector, Task
from torch.nn import Module
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from ..detectors.base import PAPER
from ..evaluation.rows import Row, Scores
from ..images.benign import BenignChange
from ..layer.manners import as_found, same_random_state
from ..looks.logits import PickLogits
from .attacks.attacked import AttackedImages, named_attacks
from .attacks.keys import data_digest, described, model_digest
from .attacks.logits import PickedLogits
from .attacks.size import AttackSize
from .data import EightBit, Relabelled, Stored, as_dataset, first_images
from .output import BenchmarkOutput
from .results import task_rows
from .scoring import (
    CleanAccuracy,
    Scorer,
    ScoreStore,
    clean_accuracy,
    named_detectors,
    score_stores,
)

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
    :func:`~pytorch_ood_viyog.benchmark.attacks.foreign.as_attack.as_attack`, or any callable
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

    def __init__(
        self,
        model: Module,
        id_test: Any,
        ood: Mapping[str, Any],
        attacks: Mapping[str, Any],
        *,
        id_train: Any = None,
        benign: Sequence[BenignChange] = (),
        attacked: int | None = None,
        logits: PickLogits | None = None,
        round_id: bool = True,
        compare_unrounded: bool = False,
        min_images: int = 10,
        cache: str | Path | None = None,
        batch_size: int = 100,
        resamples: int = 500,
        seed: int = 0,
        progress: bool = True,
    ):
        """
        :param model: classifier of images in [0, 1]
        :param id_test: data set, or tuple of tensors, of ID images and labels to measure on
        :param ood: data sets, or tensors, of OOD images by name; labels are ignored
        :param attacks: attacks by name, as their libraries make them
        :param id_train: ID images and labels to fit detectors on, disjoint from ``id_test``
        :param benign: changes of the ID test images that are no attack
        :param attacked: the first so many images of ``id_test`` are attacked, all by default
        :param logits: picks the logits out of the model's output where that is no tensor of them,
            such as ``lambda output: output["logits"]``
        :param round_id: round ID and OOD images to 8 bit, as the attacked ones are
        :param compare_unrounded: allow attacks though ID and OOD images are not rounded, so that
            detectors can tell the two by the rounding alone
        :param min_images: of fewer images there are no metrics; an error tells how many there are
        :param cache: folder for adversarial images and scores, from which an interrupted run
            resumes
        :param batch_size: images per batch
        :param resamples: bootstrap resamples for the 95 % intervals, 0 for none
        :param seed: seed of attacks, fits and resamples
        :param progress: show progress bars
        :raises ValueError: if a data set is empty, there is neither OOD set nor attack, an OOD
            set and an attack have the same name, an attack lacks something, or unrounded images
            are to be compared with rounded ones
        :raises TypeError: if a data set is no data set, or an attack no attack
        """
        if not ood and not attacks:
            raise ValueError("ood and attacks are both empty. Give at least one of them.")
        names = ["ID", *ood, *attacks, *map(str, benign)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"Names must differ between 'ID', ood, attacks and benign, got {twice} twice."
            )
        if attacks and not round_id and not compare_unrounded:
            raise ValueError(
                "Attacked images are rounded to 8 bit, and with round_id=False the others are "
                "not: a detector could tell the two by that alone. Round all, or give "
                "compare_unrounded=True as well."
            )
        self.benign = {str(change): change for change in benign}
        self.model = model
        self.logits = logits
        self._rounded = round_id
        self.ood = {
            n: Relabelled(self._images_of(n, d, labelled=False), -1) for n, d in ood.items()
        }
        self.attacks = named_attacks(attacks)
        #: names of OOD sets and attacks, in the order of :meth:`test_sets`
        self.ood_names = [*self.ood, *self.attacks]
        self.id_test = self._images_of("id_test", id_test)
        self.id_train = None if id_train is None else self._images_of("id_train", id_train)
        if attacks and not self.id_test.has_labels:
            raise ValueError(
                "id_test has no labels, which attacks need. Give (images, labels); the model's "
                "own answers will do."
            )
        self.attacked = attacked
        self.min_images = min_images
        self.cache = None if cache is None else Path(cache)
        self.batch_size = batch_size
        self.resamples = resamples
        self.seed = seed
        self.progress = progress
        #: detectors of the last :meth:`evaluate`, by name
        self.detectors: dict[str, Detector] = {}
        #: its rows
        self.rows: list[Row] = []
        #: its scores: detector -> ``"ID"``, OOD set or attack -> shape (N,), or the error
        self.scores: Scores = {}
        count = len(self.id_test) if attacked is None else min(attacked, len(self.id_test))
        self._attacked = AttackedImages(
            model,
            self.attacks,
            Subset(self.id_test, range(count)),
            self.cache,
            batch_size=batch_size,
            seed=seed,
            logits=logits,
            progress=progress,
        )
        self._clean: CleanAccuracy | None = None

    def _images_of(self, name: str, data: Any, labelled: bool = True) -> EightBit:
        return EightBit(name, as_dataset(name, data), labelled=labelled, rounded=self._rounded)

    def train_set(self) -> Dataset[Any]:
        """
        :return: ID images to fit detectors on
        :raises ValueError: if the benchmark was built without them
        """
        if self.id_train is None:
            raise ValueError("The benchmark has no training data. Give it as id_train=...")
        return self.id_train

    def test_sets(self, known: bool = True, unknown: bool = True) -> list[Dataset[Any]]:
        """
        :param known: include ID images, with their labels
        :param unknown: include OOD and adversarial images, with label -1; attacks that are not
            cached are run now
        :return: one data set for each name of ``ood_names``; with ``known`` alone, ID once
        :raises ValueError: if both are false
        """
        if not known and not unknown:
            raise ValueError("known and unknown must not both be False.")
        if not unknown:
            return [self.id_test]
        anomalies = [self._images(name) for name in self.ood_names]
        return [ConcatDataset([self.id_test, a]) if known else a for a in anomalies]

    def attack_sizes(self) -> dict[str, AttackSize]:
        """
        :return: success rate and perturbation size of each attack; attacks that are not cached
            are run now
        """
        return self._attacked.sizes()

    def _images(self, name: str) -> Dataset[Any]:
        if name == "ID":
            return self.id_test
        if name in self.benign:
            x, y = first_images(self.id_test, self.attacked)
            return Stored(self.benign[name](x, seed=self.seed), y)
        if name in self.ood:
            ood: Dataset[Any] = self.ood[name]
            return ood
        found = self._attacked.of(name)
        return Stored(found.x, torch.full_like(found.y, -1))

    def clean_accuracy(self) -> float:
        """
        :return: share of the ID test images that the model classifies correctly, NaN if they have
            no labels
        """
        if not self.id_test.has_labels:
            return math.nan
        if self._clean is None:
            with same_random_state():
                loader = DataLoader(self.id_test, self.batch_size)
                self._clean = clean_accuracy(self._classifier, loader, self.progress)
        return self._clean.accuracy

    @property
    def _classifier(self) -> Module:
        return self.model if self.logits is None else PickedLogits(self.model, self.logits)

    def _check(self, fit: bool) -> float:
        """What can be wrong with the data, before the hours of work; the clean accuracy."""
        for data in (*self.ood.values(), *([self.train_set()] if fit else [])):
            data[0]
        accuracy = self.clean_accuracy()
        if self._clean is not None:
            attacked = len(self._attacked.data) if self.attacks else None  # type: ignore[arg-type]
            self._clean.check(attacked, self.min_images)
        return accuracy

    def _stores(
        self, detectors: Mapping[str, Detector], fitting: Mapping[str, Any] | None, size: int
    ) -> Callable[[Any], ScoreStore] | None:
        """Where scores are kept; before the fit, which changes what detectors are."""
        if self.cache is None:
            return None
        fit = "" if fitting is None else f"{data_digest(self.train_set())} {described(fitting)}"
        settings = f"{fit} {size} {self.seed}"
        with as_found(self.model):
            belongs_to = model_digest(self._classifier, self.id_test, settings)
        return score_stores(self.cache, self.model, detectors, belongs_to)

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
        named = named_detectors(detector)
        if device is not None:
            self.model.to(device)
        fitting = dict(loader_kwargs or {})
        if "batch_sampler" not in fitting:
            fitting = {"batch_size": self.batch_size} | fitting
        scoring = {"batch_size": self.batch_size} | fitting
        scoring = {name: value for name, value in scoring.items() if name not in _ORDER}
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
                images = self._images(name)
                if len(images):  # type: ignore[arg-type]
                    scorer.score(name, images, scoring, stores and stores(images))
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
