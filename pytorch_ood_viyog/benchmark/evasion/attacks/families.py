"""
Which attacks there are, by family.
"""

from collections.abc import Iterable

from .decision import BlackBox
from .descent import Attack, Descent, Plain
from .orthogonal import Alternating
from .penalty import Penalty
from .quiet import OutOfQuiet
from .smooth import Blurred, Coarse
from .steps import proportional

__all__ = ["FAMILIES", "attacks_of"]

_BLIND = Penalty(0.0)

#: families of attacks by name, those first that are cheap; ``transfer`` has none of its own: it
#: tries on each system what got through another
FAMILIES: dict[str, dict[str, Attack]] = {
    "pgd": {
        "PGD": Descent(_BLIND, Plain()),
        "PGD, soft steps": Descent(_BLIND, Plain(), proportional),
    },
    "quiet": {
        "out of quiet": Descent(_BLIND, OutOfQuiet()),
        "out of quiet, selective": Descent(Alternating(), OutOfQuiet()),
        "out of quiet, selective, soft steps": Descent(Alternating(), OutOfQuiet(), proportional),
    },
    "smooth": {
        "blurred 0.7": Descent(_BLIND, Blurred(0.7)),
        "blurred 0.7, selective": Descent(Alternating(), Blurred(0.7)),
        "blurred 1.5": Descent(_BLIND, Blurred(1.5)),
        "coarse 2, selective": Descent(Alternating(), Coarse(2)),
    },
    "alternating": {
        "selective": Descent(Alternating(), Plain()),
        "selective, soft steps": Descent(Alternating(), Plain(), proportional),
        "orthogonal": Descent(Alternating(orthogonal=True), Plain()),
        "orthogonal, soft steps": Descent(Alternating(orthogonal=True), Plain(), proportional),
    },
    "penalty": {f"penalty {w:g}": Descent(Penalty(w), Plain()) for w in (2.0, 10.0)},
    "transfer": {},
    "square": {"square": BlackBox()},
}


def attacks_of(families: Iterable[str]) -> dict[str, Attack]:
    """
    :param families: names of families
    :return: their attacks by name
    """
    return {name: each for family in families for name, each in FAMILIES[family].items()}
