"""
How a Triage comes to its rule: detectors, simulated populations, evidence, thresholds.
"""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from ..detectors.residue import ViyogResidue
from ..detectors.same_way import SameWay
from ..fitting.sampled_inputs import SampledInputs
from ..images.pixel_range import PixelRange
from ..images.pixels import to_8_bit
from ..images.ways import Through, apply_ways
from ..layer.batches import batches, first_inputs, in_batches, split_batch
from ..layer.manners import same_random_state
from ..looks.logits import Answers, usual_logits
from ..pipeline.shared_forward import SharedForward
from ..residue.intent.shapes import filter_shaped
from ..residue.statistics import convolution_of
from .fitted_triage import FittedTriage
from .populations import Classifier, Population, Verdict, benign, simulated
from .populations.classifier import Unaimed
from .rule.evidence import read_first, second_look
from .rule.learning import ORDER, Learnt, Table, learn
from .rule.reading import read
from .rule.thresholds import Thresholds, fewest_calibration_images

__all__ = ["Trained", "Training"]

# images at once
_BATCH = 64
# calibration images that are kept, fewest to learn from, fewest successful attacks of a family
_MOST, _FEWEST, _SUCCESSES = 1200, 30, 30
# images of attacks that cannot follow gradients
_UNAIMED = ("minimal",)
# share of the map positions that filter-shaped residues depend on
_SHARE = 0.1


class Trained(Protocol):
    """What is trained: a Triage."""

    pipeline: SharedForward
    residue: ViyogResidue
    answers: Answers
    id_fpr: float
    noisy_fpr: float
    look: Any
    ask_share: float
    simulate_on: int
    leave_out: tuple[str, ...]
    through: Through | None
    pixel_range: Any
    seed: int


class Training:
    """One fit of a Triage."""

    def __init__(self, triage: Trained, progress: bool):
        """
        :param triage: what is fitted; of it only the detectors change
        :param progress: show progress bars
        """
        self.triage = triage
        self.progress = progress

    def fit_detectors(self, loader: Iterable[Any]) -> None:
        """
        Fit those detectors that are not fitted yet.

        :param loader: ID data
        """
        pipeline = self.triage.pipeline
        names = pipeline.unfitted(first_inputs(loader, pipeline.model))
        if names:
            pipeline.fit(_Labelled(loader), names=names, progress=self.progress)

    def calibration(self, loader: Tensor | Iterable[Any]) -> Tensor:
        """
        :param loader: ID data that nothing was fitted to
        :return: a sample of the inputs that does not depend on order and batches
        :raises ValueError: if there are too few
        """
        sampled = SampledInputs(in_batches(loader), _MOST, self.triage.seed)
        with same_random_state(self.triage.pipeline.model):
            for _ in batches(sampled, "calibrate", self.progress):
                pass
        x = sampled.inputs()
        least = fewest_calibration_images(self.triage.id_fpr, self.triage.noisy_fpr)
        if len(x) < least + _FEWEST:
            raise ValueError(
                f"Too few calibration images: {len(x)}. Triage(id_fpr={self.triage.id_fpr:g}, "
                f"noisy_fpr={self.triage.noisy_fpr:g}) needs {least} to set thresholds on and "
                f"{_FEWEST} more to learn from, {least + _FEWEST} in all. Give more, or ask for "
                f"higher rates."
            )
        return x.to(self.triage.answers.device)

    def learnt(
        self,
        x: Tensor,
        ood: Tensor | Iterable[Any] | None,
        adv: Tensor | Iterable[Any] | None,
    ) -> FittedTriage:
        """
        :param x: calibration inputs, in an order that means nothing
        :param ood: OOD inputs of the user
        :param adv: adversarial inputs of the user
        :return: what follows from them
        """
        triage = self.triage
        self.pixels = PixelRange.of(x, triage.pixel_range)
        least = fewest_calibration_images(triage.id_fpr, triage.noisy_fpr)
        kept = max(least, len(x) - triage.simulate_on, (len(x) + 1) // 2)
        images = self.pixels.images(x).clamp(0, 1)
        classifier, shaped_by = self._classifier(images[kept : kept + 2])
        populations = self._populations(classifier, images[kept:], shaped_by, ood, adv)
        table, counts = self._table(populations)
        rule, thresholds = self._thresholds(learn(table), images[:kept])
        return FittedTriage(rule, thresholds, self.pixels, triage.look, counts, shaped_by)

    def drift(self, x: Tensor) -> SameWay:
        """
        :param x: calibration inputs
        :return: tells whether others come the same way
        """
        images = self._way(self.pixels.images(x).clamp(0, 1), self.triage.seed)
        return SameWay(self.triage.residue).fit(self.pixels.inputs(images, x), progress=False)

    # -- populations --------------------------------------------------------------------------

    def _classifier(self, images: Tensor) -> tuple[Classifier, str]:
        triage = self.triage
        triage.answers.logits(self.pixels.inputs(images, images))  # refuses what is no classifier
        pick = triage.answers.pick or usual_logits
        classifier = Classifier(triage.pipeline.model, self.pixels, pick)
        if classifier.can_be_differentiated(images):
            return classifier, "gradients"
        statistics = triage.residue._statistics
        if statistics is None:
            raise RuntimeError(
                "The model cannot be differentiated, and a loaded ViyogResidue does not know its "
                "layer's filters. Fit the detectors together with the triage."
            )
        generator = torch.Generator().manual_seed(triage.seed)
        shaped = filter_shaped(convolution_of(statistics), _SHARE, generator)
        return Unaimed(classifier, shaped), "filters"

    def _way(self, images: Tensor, seed: int) -> Tensor:
        through = self.triage.through
        return images if through is None else apply_ways(through, images, seed=seed)

    def _populations(
        self,
        classifier: Classifier,
        images: Tensor,
        shaped_by: str,
        ood: Tensor | Iterable[Any] | None,
        adv: Tensor | Iterable[Any] | None,
    ) -> Iterator[Population]:
        left_out = (*self.triage.leave_out, *(_UNAIMED if shaped_by == "filters" else ()))
        way, seed = self._way, self.triage.seed
        yield from simulated(
            classifier,
            images,
            seed=seed,
            leave_out=left_out,
            through=None if self.triage.through is None else way,
            progress=self.progress,
        )
        rounded = to_8_bit(images)
        if bool((rounded - images).abs().max() > 0.1 / 255):
            # simulated changes are rounded: rounding alone must not look like one of them
            source = torch.arange(len(images))
            yield Population("ID, rounded", Verdict.ID, way(rounded, seed), source)
        for verdict, given in ((Verdict.OOD, ood), (Verdict.ADV, adv)):
            if given is not None:
                inputs = torch.cat([split_batch(b)[0] for b in in_batches(given)])
                own = self.pixels.images(inputs.to(images.device)).clamp(0, 1)
                yield Population(f"given {verdict.name}", verdict, own, torch.arange(len(own)))

    def _table(self, populations: Iterator[Population]) -> tuple[Table, dict[str, int]]:
        parts: list[Table] = []
        counts: dict[str, int] = {}
        for each in populations:
            count = len(each.images)
            if each.verdict == Verdict.ADV and count < _SUCCESSES:
                warnings.warn(
                    f"Only {count} attacks of the family {each.name!r} changed the model's answer "
                    f"on calibration images; {_SUCCESSES} are needed. The rule is learnt without "
                    f"this family: give more calibration images.",
                    stacklevel=4,
                )
                continue
            numbers, look, shape = self._evidence(each.images)
            place = ORDER.index(each.verdict)
            parts.append(
                Table(
                    torch.full((count,), place),
                    torch.full((count,), len(parts)),
                    each.source,
                    numbers,
                    look,
                    shape,
                )
            )
            counts[each.name] = count
        missing = [v.name for i, v in enumerate(ORDER) if not any(i in p.verdict for p in parts)]
        if missing:
            raise ValueError(
                f"Nothing to learn {' and '.join(missing)} from: no such population is left. Give "
                f"more calibration images, or leave fewer populations out. Where ADV is missing, "
                f"simulated attacks hardly ever changed the model's answer: does it answer more "
                f"than one class at all?"
            )
        return _joined(parts), counts

    # -- evidence -----------------------------------------------------------------------------

    def _evidence(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Numbers of the first pass, of a second look, and features of the residue."""
        triage = self.triage
        numbers: dict[str, list[Tensor]] = {}
        looks: dict[str, list[Tensor]] = {}
        shapes = []
        with torch.no_grad():
            for part in torch.split(images, _BATCH):
                x = self.pixels.inputs(part, part)
                first = read_first(triage.pipeline, triage.residue, x)
                shapes.append(first.shape.cpu())
                _collect(numbers, first.numbers)
                if triage.look != "never":
                    found = second_look(triage.answers.logits, self.pixels, x, first.logits)[0]
                    _collect(looks, found)
        return _catted(numbers), _catted(looks), torch.cat(shapes)

    def _log_odds(self, rule: Learnt, images: Tensor, look: str) -> Tensor:
        triage = self.triage
        with torch.no_grad():
            inputs = (self.pixels.inputs(part, part) for part in torch.split(images, _BATCH))
            parts = [read(triage, rule, look, self.pixels, x).z.cpu() for x in inputs]
        return torch.cat(parts)

    def _thresholds(self, rule: Learnt, images: Tensor) -> tuple[Learnt, Thresholds]:
        """What is asked again, and the thresholds of verdicts, on images that taught nothing."""
        triage, seed = self.triage, self.triage.seed + 1
        clean, changed = (self._way(each, seed) for each in (images, benign(images, seed)))
        with tqdm(
            total=3,
            desc="thresholds",
            leave=False,
            delay=1,
            disable=None if self.progress else True,
        ) as bar:
            if triage.look == "open":
                rule = rule.asking(self._log_odds(rule, clean, "never"), triage.ask_share)
            found = []
            for each in (clean, changed):
                bar.update()
                found.append(self._log_odds(rule, each, triage.look))
        return rule, Thresholds.of(found[0], found[1], triage.id_fpr, triage.noisy_fpr)


class _Labelled:
    """Gives samples without labels the label 0: detectors need to know which are ID."""

    def __init__(self, loader: Iterable[Any]):
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            x, y = split_batch(batch)
            yield x, torch.zeros(len(x), dtype=torch.int64) if y is None else y


def _collect(into: dict[str, list[Tensor]], values: dict[str, Tensor]) -> None:
    for name, each in values.items():
        into.setdefault(name, []).append(each.cpu())


def _catted(parts: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat(each) for name, each in parts.items()}


def _joined(parts: list[Table]) -> Table:
    def column(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    def columns(name: str) -> dict[str, Tensor]:
        names = getattr(parts[0], name)
        return {key: torch.cat([getattr(part, name)[key] for part in parts]) for key in names}

    return Table(
        column("verdict"),
        column("family"),
        column("source"),
        columns("first"),
        columns("look"),
        column("shape"),
    )
