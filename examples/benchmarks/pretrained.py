"""Pretrained classifiers at 224 pixels: who tells attacked photographs from clean and OOD ones?

.. code-block:: bash

    python examples/benchmarks/pretrained.py --images FOLDER_OR_NPZ --ood NAME=PATH NAME=PATH

The ID images need no labels: the model's own answer is attacked. ``FILE.npz:NAME`` reads encoded
images ``NAME_blob`` that begin at ``NAME_offsets``. Attacks are stored batch by batch in the cache
folder; an interrupted run goes on where it stopped. A GPU is used where there is one. For other
classifiers of torchvision or timm, give their name, and ``--checkpoint`` for weights on disk.
Rows of models that are not run now stay in the tables.
"""

import argparse
from pathlib import Path

import torch
from options import add_photographs, benchmark_parser, ood_paths
from photographs import Photographs, read_images, split_photographs
from pretrained_scores import CARLINI_WAGNER, Trial, craft_all, score_all
from separated import against_id, against_ood, draw, metric_rows, report, size_rows
from tables import keep, save_page
from targets import Target
from torch import Tensor, nn

from pytorch_ood_viyog.benchmark.attacks import Square, named_attack
from pytorch_ood_viyog.benchmark.model_names import named_model

MODELS = ("efficientnet-lite0", "efficientnet-lite1")
SIZE = 224
TRIALS = {
    **{name: Trial(named_attack(name)) for name in ("fgsm8", "pgd8", "pgd4", "pgd2", "pgd1")},
    **{name: Trial(named_attack(name), share=0.4) for name in ("bim8", "targeted8")},
    "square8": Trial(Square(8 / 255, queries=300), share=0.4),
    "cw": Trial(CARLINI_WAGNER, share=0.4),
    "deepfool": Trial(named_attack("deepfool"), share=0.1),
}
QUICK = ("fgsm8", "pgd8")
_STRONG = ("fgsm8", "pgd8", "pgd4", "pgd2")
TARGETS = (
    *(Target(f"ID-vs-ADV {a}, AUROC", against_id(a), low=0.995) for a in _STRONG[:3]),
    Target("ID-vs-ADV pgd2, AUROC", against_id("pgd2"), low=0.98),
    Target("ID-vs-ADV pgd1, AUROC", against_id("pgd1"), low=0.90),
    *(Target(f"OOD-vs-ADV {a}, AUROC", against_ood(a), low=0.999) for a in _STRONG),
    *(Target(f"OOD-vs-ADV {a}, FPR95", against_ood(a, "FPR95"), high=0.01) for a in _STRONG),
)
SHOWN = ("ViyogResidue", "ResidueOutlier", "ViyogTV", "Viyog", "Energy", "kNN", "ViM")
ABOUT = """# Pretrained classifiers at 224 pixels

Made by `python examples/benchmarks/pretrained.py --images ... --ood ... {options}`.
Attacks are rounded to 8 bit and count where the model's own answer still changes; AUROC keeps its
direction (below 0.5: the wrong way round). Detectors are fitted without labels on ID images that
are not measured on; {count} clean ID images; OOD sets: {sets}."""


def run(
    name: str,
    model: nn.Module,
    trials: dict[str, Trial],
    photographs: Photographs,
    ood: dict[str, Tensor],
    cache: Path,
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """
    :param name: of the model
    :param trials: attacks by name
    :param ood: OOD images by name
    :param cache: folder of the attacked images
    :return: rows of metrics, and rows of what the attacks did
    """
    examples = craft_all(model, trials, photographs.attacked, cache / name)
    adv = {attack: found.x for attack, found in examples.items() if len(found.x)}
    scores = score_all(model, photographs, {"id": photographs.test} | adv | ood)
    return metric_rows(name, scores, list(adv), list(ood)), size_rows(name, examples)


def arguments() -> argparse.Namespace:
    """:return: the command line"""
    parser = benchmark_parser(__doc__, needs_data=False)
    add_photographs(parser, required=True)
    add = parser.add_argument
    add("--models", nargs="+", default=MODELS, help=f"default: {' '.join(MODELS)}")
    add("--checkpoint", type=Path, help="weights of the one model that --models names")
    add("--fit", type=int, default=150, help="images that detectors are fitted on, default: 150")
    add("--n", type=int, default=100, help="images attacked, default: 100; slow attacks: fewer")
    add("--attacks", nargs="+", choices=TRIALS, default=list(TRIALS), help="default: all")
    add("--quick", action="store_true", help=f"20 images, {' and '.join(QUICK)}, first model only")
    options = parser.parse_args()
    if options.quick:
        options.n, options.attacks, options.models = 20, QUICK, options.models[:1]
    return options


def main() -> None:
    """Runs the command line."""
    options = arguments()
    trials = {name: TRIALS[name] for name in options.attacks}
    photographs = split_photographs(read_images(options.images, SIZE), options.fit, options.n)
    ood = {name: read_images(path, SIZE) for name, path in ood_paths(options).items()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, sizes = [], []
    for name in options.models:
        model = named_model(name, options.checkpoint)
        model = model.to(device, memory_format=torch.channels_last)  # a quarter faster on CPUs
        print(f"{name} on {device}", flush=True)
        of_model = run(name, model, trials, photographs, ood, options.cache / "attacks")
        rows += of_model[0]
        sizes += of_model[1]
    options.out.mkdir(parents=True, exist_ok=True)
    results = keep(rows, options.out / "pretrained.csv")
    attacks = keep(sizes, options.out / "pretrained_attacks.csv")
    draw(results, options.out / "pretrained.png", SHOWN)
    negatives = results.groupby("negatives")["n_negatives"].max()
    sets = ", ".join(sorted(set(negatives.index) - {"id"}))
    asked = f"--models {' '.join(options.models)} --fit {options.fit} --n {options.n}"
    about = ABOUT.format(count=negatives["id"], sets=sets, options=asked)
    text = report(about, results, attacks, TARGETS, "pretrained.png")
    save_page(options.out / "pretrained.md", text, __file__)
    print(text)


if __name__ == "__main__":
    main()
