"""
AdversarialBenchmark: ID, OOD and adversarial images, every detector on all tasks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_ood.api import BenchmarkInfo, Detector, Task
from torch.nn import Module
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from ..detectors.base import PAPER
from ..evaluation.rows import Row, Scores
from ..images.benign import BenignChange
from ..layer.manners import same_random_state
from .attacks.craft import AdversarialExamples, Attack, AttackSize, craft
from .data import EightBit, Relabelled, Stored, as_dataset, first_images
from .output import BenchmarkOutput
from .results import task_rows
from .scoring import Scorer, named_detectors

__all__ = ["AdversarialBenchmark"]


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
    :func:`~pytorch_ood_viyog.benchmark.attacks.craft.craft`.

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
        attacks: Mapping[str, Attack],
        *,
        id_train: Any = None,
        benign: Sequence[BenignChange] = (),
        attacked: int | None = None,
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
        :param attacks: attacks by name, each a callable ``(model, x, y) -> x_adv``
        :param id_train: ID images and labels to fit detectors on, disjoint from ``id_test``
        :param benign: changes of the ID test images that are no attack
        :param attacked: the first so many images of ``id_test`` are attacked, all by default
        :param cache: folder for adversarial images; an interrupted run resumes from it
        :param batch_size: images per batch
        :param resamples: bootstrap resamples for the 95 % intervals, 0 for none
        :param seed: seed of attacks, fits and resamples
        :param progress: show progress bars
        :raises ValueError: if a data set is empty, there is neither OOD set nor attack, or an OOD
            set and an attack have the same name
        :raises TypeError: if a data set is no data set
        """
        if not ood and not attacks:
            raise ValueError("ood and attacks are both empty. Give at least one of them.")
        names = ["ID", *ood, *attacks, *map(str, benign)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"Names must differ between 'ID', ood, attacks and benign, got {twice} twice."
            )
        self.benign = {str(change): change for change in benign}
        self.model = model
        self.ood = {n: Relabelled(EightBit(n, as_dataset(n, d)), -1) for n, d in ood.items()}
        self.attacks = dict(attacks)
        #: names of OOD sets and attacks, in the order of :meth:`test_sets`
        self.ood_names = [*self.ood, *self.attacks]
        self.id_test = EightBit("id_test", as_dataset("id_test", id_test))
        train = None if id_train is None else as_dataset("id_train", id_train)
        self.id_train = None if train is None else EightBit("id_train", train)
        self.attacked = attacked
        self.cache = cache
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
        self._adversarial: dict[str, tuple[Stored, AttackSize]] = {}

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
        return {name: self._attack(name)[1] for name in self.attacks}

    def _images(self, name: str) -> Dataset[Any]:
        if name == "ID":
            return self.id_test
        if name in self.benign:
            x, y = first_images(self.id_test, self.attacked)
            return Stored(self.benign[name](x, seed=self.seed), y)
        return self.ood[name] if name in self.ood else self._attack(name)[0]

    def _attack(self, name: str) -> tuple[Stored, AttackSize]:
        if name not in self._adversarial:
            found: AdversarialExamples = craft(
                self.model,
                self.attacks[name],
                *first_images(self.id_test, self.attacked),
                name=name,
                batch_size=self.batch_size,
                cache=self.cache,
                seed=self.seed,
                progress=self.progress,
            )
            self._adversarial[name] = Stored(found.x, torch.full_like(found.y, -1)), found.size
        return self._adversarial[name]

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

        A detector that fails has NaN for metrics and the message in the field ``Error``, in the
        rows it fails for; the others go on. The model is in evaluation mode meanwhile.

        :param detector: one, several, or several by name. Without names a detector has the name
            of its class, with a number from the second of a class on.
        :param loader_kwargs: keyword arguments for :class:`torch.utils.data.DataLoader`
        :param device: device to move model and detectors to; default is where the model is
        :param fit: fit the detectors to :meth:`train_set` first
        :return: a dictionary for every detector, task, OOD set and attack: ``Detector``, ``Task``,
            ``Dataset`` (OOD set or benign change), ``Attack``, numbers of samples, metrics as
            pytorch-ood names them (OUT is the positive class) with the ends of their intervals,
            size of the attack, ``SecondsPerImage`` of the detector by itself, ``FitSeconds`` and
            ``Error``
        :raises TypeError: if there is something else than detectors
        :raises ValueError: if there are no detectors
        """
        named = named_detectors(detector)
        if device is not None:
            self.model.to(device)
        options = {"batch_size": self.batch_size, **(loader_kwargs or {})}
        with same_random_state(self.model):
            scorer = Scorer(self.model, named, seed=self.seed, progress=self.progress)
            if fit:
                scorer.fit(DataLoader(self.train_set(), **options))
            scorer.time(first_images(self.id_test, self.batch_size)[0])
            for name in ["ID", *self.ood_names, *self.benign]:
                images = self._images(name)
                if len(images):  # type: ignore[arg-type]
                    scorer.score(name, DataLoader(images, **options))
        self.detectors, self.scores = named, scorer.scores
        self.rows = task_rows(
            scorer.scores,
            list(self.ood),
            self.attack_sizes(),
            benign=list(self.benign),
            resamples=self.resamples,
            seed=self.seed,
            costs=scorer.costs(),
            progress=self.progress,
        )
        return self.rows
