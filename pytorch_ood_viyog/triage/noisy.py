"""
What Triage learns from benign changes: the intent score that an attack must exceed.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..detectors.intent import ViyogIntent
from ..detectors.residue import ViyogResidue
from ..layer.batches import id_mask, split_batch

__all__ = ["INTENT", "benign_scores", "find_intent", "joined"]

#: name of the detector that tells attacks from benign changes
INTENT = "ViyogIntent"


def find_intent(given: ViyogIntent | bool, router: Any, model: Module) -> ViyogIntent | None:
    """
    :param given: the detector, or whether one is to be made where the router is a
        :class:`ViyogResidue`
    :param router: detector that tells ADV from OOD
    :param model: model of the pipeline
    :return: the detector; ``None`` if there is none
    :raises TypeError: if it is no :class:`ViyogIntent`, or the router is one
    :raises ValueError: if it has no model, or the router is no :class:`ViyogResidue` without
        an intent of its own
    """
    if isinstance(router, ViyogIntent):
        raise TypeError(
            "router must tell ADV from OOD, which a ViyogIntent does not. Pass a ViyogResidue as "
            "router and the ViyogIntent as intent=..."
        )
    if given and isinstance(router, ViyogResidue) and router.intent is not None:
        raise ValueError(
            "A router with intent lowers its scores where Triage would say NOISY. Use either "
            "Triage(intent=...) or ViyogResidue(intent=...)."
        )
    if isinstance(given, ViyogIntent):
        if given.model is None:
            raise ValueError("intent needs a model: ViyogIntent(model, ...).")
        if not isinstance(router, ViyogResidue):
            raise ValueError(
                f"intent judges residues, which a {type(router).__name__} does not look for. Use "
                f"a ViyogResidue as router."
            )
        return given
    if not isinstance(given, bool):
        raise TypeError(f"intent must be a ViyogIntent, True or False, got {given!r}.")
    if not given or not isinstance(router, ViyogResidue):
        return None
    return ViyogIntent(
        model,
        layer=router.layer,
        eps=router.eps,
        input_range=router.input_range,
        directions=router.directions,
        sample_size=router.sample_size,
        seed=router.seed,
    )


def benign_scores(
    intent: ViyogIntent, loader: Iterable[Any], found: list[Tensor]
) -> Iterator[Any]:
    """
    Passes batches on and scores their ID samples after benign changes on the way, so that a
    loader is read once.

    :param intent: fitted detector
    :param loader: yields batches of calibration data
    :param found: takes the scores, a tensor for each batch
    :return: iterator over the same batches
    """
    for number, batch in enumerate(loader):
        x, y = split_batch(batch)
        known = id_mask(y, x)
        x = x if known is None else x[known]
        if len(x):
            found.append(intent.benign_scores(x, seed=number).cpu().double())
        yield batch


def joined(found: list[Tensor]) -> Tensor:
    """:return: all scores, ascending"""
    return torch.cat(found).sort().values if found else torch.empty(0, dtype=torch.float64)
