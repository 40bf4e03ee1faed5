"""
The check that the tables of models share: a known residue on smooth 8-bit images, read by a
detector, from a shared pass, and by the model that returns scores.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_ood.detector import KNN, MaxSoftmax
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import interpolate

from pytorch_ood_viyog import SharedForward, ViyogResidue, with_score

__all__ = ["OK", "Checked", "checked", "smooth_images"]

OK = "right"
#: images that the detector is fitted on, and that are judged
FITTED, JUDGED = 48, 8


def smooth_images(size: int, count: int = FITTED + JUDGED) -> Tensor:
    """:return: 8-bit images without fine detail, as natural ones have little"""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, size // 4, size // 4, generator=generator)
    return (interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255).round() / 255


@dataclass(frozen=True)
class Checked:
    """What became of one model; the last three entries are ``right`` or the reason why not."""

    layer: str
    kernel: str
    before: str
    #: what is read of 8/255
    read: str
    residue: str
    shared: str
    scored: str

    @property
    def refused(self) -> bool:
        """Whether the detector said by itself that it cannot read the model."""
        return self.residue not in (OK, "WRONG")


def checked(model: Module, size: int) -> Checked:
    """
    :param model: classifier of images of 3 channels
    :param size: their size
    :return: which layer is read, and whether a residue of 8/255 is read within 40 % and moves the
        scores of all images above those of the clean ones
    """
    images = smooth_images(size)
    fit, judged = images[:FITTED], images[FITTED:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            detector = ViyogResidue(model).fit(fit.split(16), progress=False)
            found = detector.verify(judged)
        except Exception as error:
            return Checked("", "", "", "", first_sentence(error), "", "")
        described = detector.describe()
        shared = _reason(lambda: _shared(model, fit, judged, detector))
        scored = _reason(lambda: _scored(model, judged, detector))
    return Checked(
        described.layer,
        described.kernel.partition(",")[0],
        described.before,
        f"{255 * found.read:.1f}",
        OK if found.right else "WRONG",
        shared,
        scored,
    )


def _shared(model: Module, fit: Tensor, judged: Tensor, alone: ViyogResidue) -> None:
    detectors = {"msp": MaxSoftmax(None), "knn": KNN(None, k=5), "residue": ViyogResidue(None)}
    batches = [(part, torch.arange(len(part)) % 10) for part in fit.split(16)]
    scores = SharedForward(model, detectors).fit(batches, progress=False).predict(judged)
    _compare(scores["residue"], alone(judged))


def _scored(model: Module, judged: Tensor, alone: ViyogResidue) -> None:
    _compare(with_score(model, alone)(judged)[1], alone(judged))


def _compare(scores: Tensor, expected: Tensor) -> None:
    if not torch.allclose(scores, expected, rtol=0.05, atol=0.1):
        raise RuntimeError(f"scores differ by {float((scores - expected).abs().max()):.2g}")


def _reason(run: Callable[[], Any]) -> str:
    try:
        run()
    except Exception as error:
        return first_sentence(error)
    return OK


def first_sentence(error: Exception) -> str:
    """:return: what an error says first, fit for a table"""
    return " ".join(str(error).partition(". ")[0].split()).replace("|", "/")[:300]
