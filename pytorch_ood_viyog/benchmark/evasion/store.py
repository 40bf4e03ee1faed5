"""
What is finished, kept on disk, so that an interrupted run goes on where it stopped.
"""

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..attacks.cache import BatchCache, digest
from .checks import Checks
from .search import Found
from .systems.system import System

__all__ = ["Store"]


class Store:
    """Files of one system: a batch of images each, and its checks."""

    def __init__(self, folder: Path, name: str, system: System, x: Tensor, y: Tensor, how: str):
        """
        :param folder: cache folder
        :param name: name of the system
        :param system: the system; its classifier's weights and its pressures on ``x`` count
        :param x: images to attack
        :param y: their labels
        :param how: all settings, as text
        """
        with torch.no_grad():
            pressures = torch.cat(
                [system.watch(part).pressure for part in torch.split(x[:64], 32)]
            )
        # digits that do not depend on the number of threads
        seen = " ".join(f"{value:.2f}" for value in pressures.tolist())
        key = digest(system.model, x, y, f"{type(system).__name__} {how} {seen}")
        self._batches = BatchCache(Path(folder) / f"evasion-{key}")
        self._checks = self._batches.folder / "checks.json"
        (self._batches.folder / "system.txt").write_text(f"{name}\n{how}\n", encoding="utf-8")

    def read(self, number: int, x: Tensor) -> Found | None:
        """
        :param number: position of the batch
        :param x: its clean images
        :return: what was found for it, if that is known
        """
        batch = self._batches.read(number, x.shape)
        if batch is None:
            return None
        pixels, level, attack = (part.to(x.device) for part in batch)
        return Found(level, attack, pixels.to(x) / 255)

    def write(self, number: int, found: Found) -> None:
        """
        :param number: position of the batch
        :param found: what was found for it
        """
        pixels = (found.x * 255).round().to(torch.uint8)
        self._batches.write(number, (pixels.cpu(), found.level.cpu(), found.attack.cpu()))

    def read_checks(self) -> Checks | None:
        """:return: the checks, if they are known"""
        if not self._checks.exists():
            return None
        try:
            values = json.loads(self._checks.read_text(encoding="utf-8"))
            steps = {int(steps): share for steps, share in values.pop("by_steps").items()}
            return Checks(by_steps=steps, **values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            warnings.warn(f"{self._checks} is damaged and computed again: {error}", stacklevel=3)
            return None

    def write_checks(self, checks: Checks) -> None:
        """:param checks: what was found"""
        partial = self._checks.with_suffix(f".partial-{os.getpid()}")
        partial.write_text(json.dumps(asdict(checks)), encoding="utf-8")
        os.replace(partial, self._checks)
