"""
What the tables of models share: the check, a known residue on smooth 8-bit images, read by a
detector, from a shared pass, and by the model that returns scores; and the command line.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_ood.detector import KNN, MaxSoftmax
from sources import fingerprint
from tables import markdown, save_page
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import interpolate

from pytorch_ood_viyog import SharedForward, ViyogResidue, with_score

__all__ = ["OK", "Checked", "checked", "first_sentence", "make_page", "smooth_images"]

OK = "right"
#: images that the detector is fitted on, and that are judged
FITTED, JUDGED = 24, 8


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


def table(what: str, rows: dict[str, Checked]) -> str:
    """:return: the rows in Markdown, those that are refused after the others"""
    head = [what, "layer", "kernel", "before it", "read of 8/255"]
    lines = [[*head, "ViyogResidue", "SharedForward", "with_score"]]
    lines += [[name, *vars(row).values()] for name, row in rows.items() if not row.refused]
    refused = [[name, row.residue] for name, row in rows.items() if row.refused]
    right = sum(row.residue == OK for row in rows.values())
    parts = [markdown(lines), f"{right} of {len(lines) - 1} that are read are right."]
    if refused:
        parts += ["Refused, or not built:", markdown([[what, "reason"], *refused])]
    return "\n\n".join(parts)


_HOW = f"""Random weights, images of 64 px or of what a model needs, {FITTED} smooth 8-bit images
to fit and {JUDGED} to judge. Right: a residue of 8/255 is read within 40 %, clean images show less
than 3.2/255, and scores with it are above those without (`detector.verify`); SharedForward and
with_score give the same scores."""


def make_page(
    script: str, what: str, names: Sequence[str], examine: Callable[[str], Checked], about: str
) -> None:
    """
    The command line of a table; goes on where it was stopped.

    :param script: file that is run
    :param what: what a name is of
    :param names: all of them
    :param examine: name -> what became of its model
    :param about: the page's beginning; ``{asked}`` and ``{all}`` are numbers of names
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0].removeprefix("# "))
    parser.add_argument("--out", type=Path, help="Markdown file to write; default: print only")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(names))
    options = parser.parse_args()
    cache = Path(".cache") / f"{Path(script).stem}-{fingerprint(script)}.json"
    known = json.loads(cache.read_text("utf-8")) if cache.is_file() else {}
    for name in options.only:
        if name not in known:
            known[name] = vars(examine(name))
            cache.parent.mkdir(exist_ok=True)
            cache.write_text(json.dumps(known), encoding="utf-8")
            print(name, *known[name].values(), sep=" | ", flush=True)
    if options.out is not None:
        rows = {name: Checked(**known[name]) for name in options.only}
        about = about.format(asked=len(rows), all=len(names))
        save_page(options.out, f"{about} {_HOW}\n\n{table(what, rows)}", script)
