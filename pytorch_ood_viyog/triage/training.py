"""
How a Triage comes to its rule: detectors, simulated populations, evidence, thresholds.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..detectors.same_way import SameWay
from ..fitting.sampled_inputs import SampledInputs
from ..images.pixel_range import PixelRange
from ..images.pixels import to_8_bit
from ..images.ways import apply_ways
from ..layer.batches import at_once, batches, first_inputs, in_batches, split_batch
from ..layer.manners import same_random_state, warn_user
from ..looks.logits import usual_logits
from ..residue.intent.shapes import filter_shaped
from ..residue.statistics import convolution_of
from .fitted_triage import FittedTriage
from .populations import Classifier, Population, Verdict, benign, simulated
from .populations.classifier import Unaimed
from .rule.evidence import read
from .rule.learning import learn
from .rule.rule import Learnt
from .rule.table import table_of
from .rule.thresholds import Thresholds, fewest_calibration_images
from .verdicts import Verdicts

__all__ = ["Training"]

# calibration images that are kept, and fewest to learn from
_MOST, _FEWEST = 1200, 30
# images of attacks that cannot follow gradients
_UNAIMED = ("minimal",)
# share of the map positions that filter-shaped residues depend on
_SHARE = 0.1


class Training:
    """One fit of a Triage."""

    def __init__(self, triage: Verdicts, progress: bool):
        """:param triage: what is fitted; of it only the detectors change"""
        self.triage = triage
        self.progress = progress

    def fit(
        self,
        train_loader: Iterable[Any],
        calibration_loader: Iterable[Any] | None,
        ood: Tensor | Iterable[Any] | None,
        adv: Tensor | Iterable[Any] | None,
    ) -> FittedTriage:
        """What follows from the data; without calibration data, a share of the other is held."""
        if calibration_loader is not None:
            known = self._calibration(calibration_loader)  # first, as there may be too few
            self._fit_detectors(train_loader)
            return self._learnt(known, ood, adv)
        warn_user(
            "Triage.fit without calibration_loader learns and calibrates on a part of "
            "train_loader. If the model was trained on these images, false alarms will "
            "exceed id_fpr.",
        )
        triage = self.triage
        held = SampledInputs(
            train_loader, _MOST, triage.seed, held_out=triage.held_out, name="train_loader"
        )
        self._fit_detectors(held)
        for _ in held:  # detectors that were fitted already have not read it
            pass
        return self._learnt(self._calibration(held.inputs()), ood, adv)

    def _fit_detectors(self, loader: Iterable[Any]) -> None:
        """Those that are not fitted yet."""
        pipeline = self.triage.pipeline
        names = pipeline.unfitted(first_inputs(loader, pipeline.model))
        if names:
            pipeline.fit(_Labelled(loader), names=names, progress=self.progress)

    def _calibration(self, loader: Tensor | Iterable[Any]) -> Tensor:
        """A sample of the inputs that does not depend on order and batches."""
        sampled = SampledInputs(
            in_batches(loader), _MOST, self.triage.seed, name="calibration_loader"
        )
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

    def _learnt(
        self,
        x: Tensor,
        ood: Tensor | Iterable[Any] | None,
        adv: Tensor | Iterable[Any] | None,
    ) -> FittedTriage:
        triage = self.triage
        self.pixels = PixelRange.of(x, triage.pixel_range)
        least = fewest_calibration_images(triage.id_fpr, triage.noisy_fpr)
        kept = max(least, len(x) - triage.simulate_on, (len(x) + 1) // 2)
        images = self.pixels.images(x).clamp(0, 1)
        classifier, shaped_by = self._classifier(images[kept : kept + 2])
        populations = self._populations(classifier, images[kept:], shaped_by, ood, adv)
        table, counts = table_of(populations, triage, self.pixels, triage.look != "never")
        rule, thresholds = self._thresholds(learn(table), images[:kept])
        arrived = self.pixels.inputs(self._way(images, triage.seed))
        drift = SameWay(triage.residue).fit(arrived, progress=False)
        return FittedTriage(rule, thresholds, self.pixels, triage.look, counts, shaped_by, drift)

    # -- populations --------------------------------------------------------------------------

    def _classifier(self, images: Tensor) -> tuple[Classifier, str]:
        triage = self.triage
        triage.answers.logits(self.pixels.inputs(images))  # refuses what is no classifier
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

    # -- thresholds ---------------------------------------------------------------------------

    def _log_odds(self, rule: Learnt, images: Tensor, look: str) -> Tensor:
        triage = self.triage
        with torch.no_grad():
            inputs = (self.pixels.inputs(part) for part in torch.split(images, at_once(images)))
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
