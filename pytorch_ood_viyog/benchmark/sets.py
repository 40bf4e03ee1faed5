"""
The images of a benchmark: ID, OOD, attacked, changed without harm, and what the model makes of
the clean ones.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_ood.api import Detector
from pytorch_ood.benchmark import Benchmark
from torch.nn import Module
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from ..evaluation.rows import Row, Scores
from ..images.benign import BenignChange
from ..layer.manners import as_found, same_random_state, warn_user
from ..looks.logits import PickLogits
from .attacks.attacked import AttackedImages, named_attacks
from .attacks.logits import PickedLogits, checked_logits
from .attacks.size import AttackSize
from .data import EightBit, Stored, as_dataset, first_images
from .scoring import CleanAccuracy, clean_accuracy

__all__ = ["BenchmarkImages"]


class BenchmarkImages(Benchmark):  # type: ignore[misc]
    """What :class:`~pytorch_ood_viyog.benchmark.benchmark.AdversarialBenchmark` measures on."""

    def __init__(
        self,
        model: Module,
        id_test: Any,
        ood: Mapping[str, Any],
        attacks: Mapping[str, Any],
        *,
        id_train: Any = None,
        benign: Sequence[BenignChange] | Mapping[str, Any] = (),
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
        :param benign: what is no attack: changes of the ID test images, or by name changes and
            data sets of changed ID images, such as those of
            :func:`~pytorch_ood_viyog.images.disk.corruptions.corruption_sets`
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
        if not isinstance(benign, Mapping):
            benign = {str(change): change for change in benign}
        names = ["ID", *ood, *attacks, *benign]
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
        self.model = model
        self.logits = logits
        self._rounded = round_id
        self.benign = {
            n: b if isinstance(b, BenignChange) else self._images_of(n, b, label=0)
            for n, b in benign.items()
        }
        self.ood = {n: self._images_of(n, d, label=-1) for n, d in ood.items()}
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

    def _images_of(self, name: str, data: Any, label: int | None = None) -> EightBit:
        return EightBit(name, as_dataset(name, data), label=label, rounded=self._rounded)

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
            benign: BenignChange | EightBit = self.benign[name]
            if isinstance(benign, EightBit):
                return benign
            x, y = first_images(self.id_test, self.attacked)
            return Stored(benign(x, seed=self.seed), y)
        if name in self.ood:
            return self.ood[name]
        found = self._attacked.of(name)
        return Stored(found.x, torch.full_like(found.y, -1))

    def clean_accuracy(self) -> float:
        """
        :return: share of the ID test images that the model classifies correctly, NaN if they have
            no labels
        """
        if not self.id_test.has_labels or not self._classifies():
            return math.nan
        if self._clean is None:
            with same_random_state():
                loader = DataLoader(self.id_test, self.batch_size)
                self._clean = clean_accuracy(self._classifier, loader, self.progress)
        return self._clean.accuracy

    @property
    def _classifier(self) -> Module:
        return self.model if self.logits is None else PickedLogits(self.model, self.logits)

    def _classifies(self) -> bool:
        """Whether the model gives logits, which attacks need and detectors need not."""
        x, _ = first_images(self.id_test, 1)
        device = next((p.device for p in self.model.parameters()), x.device)
        try:
            with as_found(self.model):
                checked_logits(self._classifier, x.to(device))
        except (ValueError, TypeError):
            if self.attacks:
                raise
            return False
        return True

    def _check(self, fit: bool) -> float:
        """What can be wrong with the data, before the hours of work; the clean accuracy."""
        changed = [b for b in self.benign.values() if isinstance(b, EightBit)]
        for data in (*self.ood.values(), *changed, *([self.train_set()] if fit else [])):
            data[0]
        if fit and self.id_train is not None and not self.id_train.has_labels:
            warn_user(
                "id_train has no labels: detectors that model classes are fitted to one class.",
            )
        accuracy = self.clean_accuracy()
        if self._clean is not None:
            attacked = len(self._attacked.data) if self.attacks else None  # type: ignore[arg-type]
            self._clean.check(attacked, self.min_images)
        return accuracy
