"""A map of threats: which kinds of attack the first layer sees, and who sees the others.

.. code-block:: bash

    python examples/benchmarks/threats.py --images FOLDER_OR_NPZ --ood NAME=PATH --data DATA_FOLDER

EfficientNet-Lite0 on the images of ``--images`` as in ``pretrained.py``, and, with ``--data``, a
small network of ``prepare.py`` on 32 pixels. Everything is rounded to 8 bit, and only successes
count. Finished batches of attacks are stored in the cache folder.
"""

import argparse
from pathlib import Path

import torch
from images import NATURAL_OOD, fit_images, test_images
from photographs import Photographs, read_images, split_photographs
from prepare import CONFIGS, load_model, load_ood
from pretrained_report import keep
from pretrained_scores import craft_all, metric_rows, score_all
from threat_list import kinds, threats
from threats_report import draw, report
from torch import Tensor, nn

from pytorch_ood_viyog.benchmark.model_names import named_model

LARGE, SURROGATE = "efficientnet-lite0", "efficientnet-lite1"
SMALL, SMALL_SURROGATE = "photo15-3x3", "photo15-7x7"
# the small network costs little: more images, and detectors fitted as well as at 32 pixels
_CHEAPER, _SMALL_FIT, _SMALL_TEST, _SMALL_OOD = 2, 1000, 300, 60


class Enlarged(nn.Module):
    """A classifier of larger images, given smaller ones."""

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model = model
        self.resize = nn.Upsample(size, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        """
        :param x: images (B, 3, H, W)
        :return: logits
        """
        logits: Tensor = self.model(self.resize(x))
        return logits


def large(options: argparse.Namespace) -> list[dict[str, object]]:
    """:return: rows of EfficientNet-Lite0"""
    photographs = split_photographs(read_images(options.images, 224), options.fit, options.n)
    ood = {name: read_images(path, 224) for name, path in options.ood}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, surrogate = (
        named_model(name).to(device, memory_format=torch.channels_last)
        for name in (LARGE, SURROGATE)
    )
    return rows_of(LARGE, model, photographs, ood, (SURROGATE, surrogate), options)


def small(options: argparse.Namespace) -> list[dict[str, object]]:
    """:return: rows of the small network"""
    name = CONFIGS[SMALL].images
    fit, test = fit_images(name, options.data).x, test_images(name, options.data).x
    n = _CHEAPER * options.n
    photographs = Photographs(fit[:_SMALL_FIT], test[:n], test[n : n + _SMALL_TEST])
    everything = load_ood(SMALL, options.data)
    ood = {n: everything[n][:_SMALL_OOD] for n in NATURAL_OOD[name]}
    model, other = (
        load_model(each, options.data, options.cache) for each in (SMALL, SMALL_SURROGATE)
    )
    surrogate = Enlarged(other, 64).eval()
    return rows_of(SMALL, model, photographs, ood, (SMALL_SURROGATE, surrogate), options)


def rows_of(
    name: str,
    model: nn.Module,
    photographs: Photographs,
    ood: dict[str, Tensor],
    surrogate: tuple[str, nn.Module],
    options: argparse.Namespace,
) -> list[dict[str, object]]:
    """:return: a row for each detector, attack and set of negatives, with the kind of threat"""
    groups = threats(photographs.fit.shape[-1], surrogate)
    trials = {attack: trial for found in groups.values() for attack, trial in found.items()}
    cache = options.cache / "attacks" / name
    examples = craft_all(model, trials, photographs.attacked, cache)
    adv = {attack: found.x for attack, found in examples.items() if len(found.x)}
    scores = score_all(model, photographs, {"id": photographs.test} | adv | ood)
    kind = kinds(groups)
    rows = metric_rows(name, scores, list(adv), list(ood))
    sizes = {
        attack: {"kind": kind[attack], "attacked": found.size.attacked}
        | {"succeeded": found.size.succeeded, "linf": found.size.linf, "rms": found.size.rms}
        for attack, found in examples.items()
    }
    failed = [
        {"model": name, "attack": attack} | size
        for attack, size in sizes.items()
        if attack not in adv
    ]
    return [row | sizes[str(row["attack"])] for row in rows] + failed


def arguments() -> argparse.Namespace:
    """:return: the command line"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--images", help="ID images of 224 pixels, as for pretrained.py")
    add("--ood", nargs="+", default=[], metavar="NAME=PATH", help="OOD images, likewise")
    add("--data", type=Path, help="folder of prepare.py, for the small network")
    add("--fit", type=int, default=150, help="images that detectors are fitted on, default: 150")
    add("--n", type=int, default=100, help="images attacked; slow attacks take a part of them")
    add("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="default: results")
    options = parser.parse_args()
    options.ood = [(name, path) for name, _, path in (o.partition("=") for o in options.ood)]
    if not (options.images or options.data):
        parser.error("give --images, --data or both")
    return options


def main() -> None:
    """Runs the command line."""
    options = arguments()
    rows = large(options) if options.images else []
    rows += small(options) if options.data else []
    options.out.mkdir(parents=True, exist_ok=True)
    results = keep(rows, options.out / "threats.csv")
    draw(results, options.out / "threats.png")
    text = report(results)
    (options.out / "threats.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
