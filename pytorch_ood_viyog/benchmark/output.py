"""
What an evaluated benchmark writes: tables, figures, a page.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from ..evaluation.page import Section, write_page
from ..evaluation.plotting import plot_auroc, plot_scores
from ..evaluation.rows import Row
from ..triage import Verdict
from ..triage.report import TriageReport, residue_at
from ..triage.triage import Triage
from .report import (
    best_detector,
    result_sections,
    save_tables,
    shown_sections,
    summary,
    write_csv,
)
from .sets import BenchmarkImages

__all__ = ["BenchmarkOutput"]


class BenchmarkOutput(BenchmarkImages):
    """
    What :class:`~pytorch_ood_viyog.benchmark.benchmark.AdversarialBenchmark` does with its
    results.
    """

    def save(self, path: str | Path) -> list[Path]:
        """
        Write the rows of the last :meth:`evaluate`.

        :param path: where to, without suffix; folders are made
        :return: the files written: ``path.csv``, all rows, and ``path.md``, tables of AUROC
        :raises RuntimeError: if nothing was evaluated yet
        """
        return save_tables(self._evaluated(), self.attack_sizes(), Path(path))

    def plot(self, path: str | Path) -> list[Path]:
        """
        Draw the results of the last :meth:`evaluate`. Needs matplotlib.

        :param path: where to, without suffix; folders are made
        :return: the files written: ``path_auroc.png``, a heat map for every task, and
            ``path_scores.png``, the distributions of the scores
        :raises RuntimeError: if nothing was evaluated yet
        :raises ImportError: if matplotlib is not installed
        """
        title = Path(path).name
        return [
            plot_auroc(self._evaluated(), f"{path}_auroc.png", title),
            plot_scores(self.scores, self._kinds, f"{path}_scores.png", title),
        ]

    def verdicts(self, triage: Triage, path: str | Path | None = None) -> list[Row]:
        """
        What a triage says of the images; those that an attack has made are in the cache, so that
        another triage costs no more than its own passes.

        :param triage: fitted triage
        :param path: where to write the rows, without suffix; ``path_verdicts.csv``
        :return: a row for ID and for each OOD set, attack and benign change: ``Kind``,
            ``Images``, ``Count``, and the share of each verdict, NaN where there are no images
        """
        rows: list[Row] = []
        for kind, names in self._kinds.items():
            for name in names:
                batches = self._batches([self._images(name)])
                found = torch.cat([torch.zeros(0).long(), *(triage.predict(x) for x in batches)])
                row: Row = {"Kind": kind, "Images": name, "Count": len(found)}
                shares = {v.name: float((found == int(v)).double().mean()) for v in Verdict}
                rows.append(row | shares)
        if path is not None:
            write_csv(rows, Path(f"{path}_verdicts.csv"))
        return rows

    def report(
        self, path: str | Path, *, triage: Triage | None = None, title: str = "Benchmark"
    ) -> Path:
        """
        Write the results of the last :meth:`evaluate` as one HTML file that needs no other:
        summary, tables, figures, images with what was made of them, worst mistakes first, and how
        it was made. Needs the extra ``report``.

        :param path: file to write; folders are made
        :param triage: fitted triage that judges all images too; without it, they are judged by
            the best detector alone, with an alarm on 5 % of the ID test images
        :param title: heading
        :return: the file
        :raises RuntimeError: if nothing was evaluated yet
        :raises ValueError: if there is a triage, but no OOD set or no attack
        :raises ImportError: if Jinja2, matplotlib or Pillow is not installed
        """
        rows, sizes = self._evaluated(), self.attack_sizes()
        # benign changes are made when they are asked for, so once
        images = {name: self._images(name) for names in self._kinds.values() for name in names}
        sections = result_sections(rows, sizes, self.scores, self._kinds)
        facts = {"model": type(self.model).__name__, "seed": self.seed}
        if triage is None:
            sections += self._shown(images)
        else:
            judged = self._judged(triage, images)
            sections += [Section("Triage", judged.summary), *judged.sections()]
            facts["seed of Triage"] = triage.seed
        return write_page(path, title, summary(rows, sizes), sections, facts)

    def _shown(self, images: Mapping[str, Dataset[Any]]) -> Iterator[Section]:
        """Images that the best detector alone judges, of those that can judge ID images."""
        working = {n for n, own in self.scores.items() if isinstance(own["ID"], Tensor)}
        positive = "ADV" if self.attacks else "OOD"
        best = best_detector([r for r in self.rows if r["Detector"] in working], positive)
        if best is None:
            return iter(())
        detectors = [d for name, d in self.detectors.items() if name in working]

        def residue(image: Tensor) -> Tensor | None:
            return residue_at(detectors, image.to(self._device))

        return shown_sections(self.scores, best, positive, self._kinds, images, residue)

    def _judged(self, triage: Triage, images: Mapping[str, Dataset[Any]]) -> TriageReport:
        """What a triage makes of all images, under the names of their sets."""
        kinds = self._kinds
        if missing := [kind for kind in ("OOD", "ADV") if kind not in kinds]:
            raise ValueError(f"triage needs OOD and ADV images, there are none of {missing}.")
        report = triage.report(
            *(self._batches([images[name] for name in kinds[k]]) for k in ("ID", "OOD", "ADV")),
            noisy=self._batches([images[name] for name in self.benign]) if self.benign else None,
            progress=self.progress,
        )
        # the name of its set for each image of a kind, and its number within that
        places = {
            kind: [(name, i) for name in names for i in range(len(images[name]))]  # type: ignore[arg-type]
            for kind, names in kinds.items()
        }
        samples = []
        for sample in report.samples:
            source, number = places[sample.truth.name][sample.number]
            samples.append(replace(sample, source=source, number=number))
        return replace(report, samples=tuple(samples))

    def _batches(self, images: list[Dataset[Any]]) -> Iterator[Tensor]:
        device = self._device
        loader: DataLoader[Any] = DataLoader(ConcatDataset(images), batch_size=self.batch_size)
        return (x.to(device) for x, _ in loader)

    @property
    def _device(self) -> torch.device:
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def _kinds(self) -> dict[str, list[str]]:
        """Kind of images -> their names, of the kinds that there are."""
        sets = {"ID": ["ID"], "OOD": self.ood, "ADV": self.attacks, "NOISY": self.benign}
        return {kind: list(names) for kind, names in sets.items() if names}

    def _evaluated(self) -> list[Row]:
        if not self.rows:
            raise RuntimeError("There are no results yet. Call evaluate() first.")
        return self.rows
