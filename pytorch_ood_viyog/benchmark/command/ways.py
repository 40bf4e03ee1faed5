"""
The command ``ways``: what may happen to images on their way, and whether a detector minds.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from ...detectors.residue import ViyogResidue
from ...detectors.same_way import SameWay
from ...images.ways import Way, apply_ways, require_ways
from ...layer.batches import in_batches
from ..data import EightBit, first_images
from ..model_names import asked_model
from ..report import write_csv
from .shared import Commands, command_parser, id_images

__all__ = ["add_ways"]

_DESCRIPTION = """\
Which ways of an image raise false alarms, and are noticed?

Sends ID images through codecs and resizers, and says for each how many raise a false alarm of
ViyogResidue, and whether SameWay notices. Thresholds are set on one half of the images as they
are, all numbers are of the other. A table is written to --out.

  python -m pytorch_ood_viyog.benchmark ways --model resnet18 --images imagenet/val \\
      --id-train imagenet/train --ways "JPEG 95 4:2:0" "resize 0.5 lanczos" "letterbox 0.75 0"
"""
_WAYS = ("JPEG 95 4:2:0", "JPEG 75", "WebP 80", "resize 0.5 lanczos", "palette 256")
#: images of each half: SameWay is fitted on one, and thresholds are set there
_FEWEST = 30


def add_ways(commands: Commands) -> None:
    """:param commands: gets the command"""
    parser = command_parser(commands, "ways", _DESCRIPTION, limit=200)
    parser.set_defaults(work=_run)
    add = parser.add_argument
    add("--images", required=True, type=Path, metavar="PATH", help="ID images, folder or .npz")
    shown = ", ".join(_WAYS)
    add("--ways", nargs="+", default=[*_WAYS], metavar="WAY", help=f"default: {shown}")
    add("--alarms", type=float, default=0.05, help="share of ID alarms, default: 0.05")


def _run(options: argparse.Namespace) -> None:
    if not 0 < options.alarms < 1:
        raise ValueError(f"--alarms must be between 0 and 1, got {options.alarms:g}.")
    ways = [Way(name) for name in options.ways]
    require_ways(options.ways)  # a missing library is told before the weights are fetched
    measured, train = id_images(options, options.images, labelled=False)
    model = asked_model(options)
    x, fitted = (
        first_images(EightBit(name, images, label=0), None)[0].to(options.device)
        for name, images in (("--images", measured), ("--id-train", train))
    )
    if len(x) < 2 * _FEWEST:
        raise ValueError(f"--images must hold {2 * _FEWEST} images or more, got {len(x)}.")
    detector = ViyogResidue(model).fit([*in_batches(fitted)])
    known, judged = x[0::2], x[1::2]
    limit = _scores(detector, known).quantile(1 - options.alarms)
    same = SameWay(detector, seed=options.seed).fit(known)
    rows = []
    for way in (None, *ways):
        sent = judged if way is None else apply_ways(way, judged, seed=options.seed)
        check, name = same.check(sent), str(way or "as they are")
        alarms = float((_scores(detector, sent) > limit).double().mean())
        rows.append({"way": name, "false alarms": alarms, "p-value": check.p_value})
        rows[-1] |= {"said": str(check)}
        print(f"{name:<24} false alarms {alarms:.3f}, p {check.p_value:.4f}: {check}")
    print(write_csv(rows, options.out.with_name(f"{options.out.name}.csv")))


def _scores(detector: ViyogResidue, x: Tensor) -> Tensor:
    return torch.cat([detector.predict(part).double() for part in in_batches(x)])
