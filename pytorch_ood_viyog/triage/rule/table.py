"""
Evidence of simulated images, as a table to learn from.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ...images.pixel_range import PixelRange
from ...layer.batches import at_once
from ...layer.manners import warn_user
from ..populations.simulated import Population
from ..populations.verdict import ORDER, Verdict
from .evidence import Reader, read_first, second_look

__all__ = ["Table", "table_of"]

# fewest successful attacks of a family
_SUCCESSES = 30


@dataclass(frozen=True)
class Table:
    """Evidence of simulated images, :math:`N` in all."""

    #: place of the verdict in :data:`ORDER`, shape :math:`N`
    verdict: Tensor
    #: number of the population, shape :math:`N`
    family: Tensor
    #: number of the ID image that each was made from, shape :math:`N`
    source: Tensor
    #: name -> evidence of the first pass, shape :math:`N`
    first: Mapping[str, Tensor]
    #: name -> evidence of the second look, shape :math:`N`; empty without one
    look: Mapping[str, Tensor]
    #: features of the residue, :math:`N \\times F`
    shape: Tensor


def table_of(
    populations: Iterable[Population], reader: Reader, pixels: PixelRange, look: bool
) -> tuple[Table, dict[str, int]]:
    """
    :param populations: images of each verdict
    :param reader: fitted detectors
    :param pixels: black and white of the model's inputs
    :param look: whether the model is asked again about each image
    :return: evidence of all of them, and how many there are of each population
    :raises ValueError: if there are none of a verdict
    """
    parts: list[Table] = []
    counts: dict[str, int] = {}
    for each in populations:
        count = len(each.images)
        if each.verdict == Verdict.ADV and count < _SUCCESSES:
            warn_user(
                f"Only {count} attacks of the family {each.name!r} changed the model's answer "
                f"on calibration images; {_SUCCESSES} are needed. The rule is learnt without "
                f"this family: give more calibration images.",
            )
            continue
        parts += [
            _read(batch, each, len(counts), reader, pixels, look)
            for batch in torch.split(torch.arange(count), at_once(each.images))
        ]
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


@torch.no_grad()
def _read(
    batch: Tensor,
    population: Population,
    family: int,
    reader: Reader,
    pixels: PixelRange,
    look: bool,
) -> Table:
    images = population.images[batch.to(population.images.device)]
    x = pixels.inputs(images)
    first = read_first(reader, x)
    looks = second_look(reader.answers.logits, pixels, x, first.logits)[0] if look else {}
    place = ORDER.index(population.verdict)
    return Table(
        torch.full((len(batch),), place),
        torch.full((len(batch),), family),
        population.source[batch],
        {name: values.cpu() for name, values in first.numbers.items()},
        {name: values.cpu() for name, values in looks.items()},
        first.shape.cpu(),
    )


def _joined(parts: list[Table]) -> Table:
    def joined(values: list[Any]) -> Any:
        if isinstance(values[0], Tensor):
            return torch.cat(values)
        return {name: torch.cat([value[name] for value in values]) for name in values[0]}

    return Table(*(joined([getattr(p, f.name) for p in parts]) for f in fields(Table)))
