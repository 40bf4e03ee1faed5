"""How well a second look finds attacks, against the project's targets.

.. code-block:: bash

    python examples/benchmarks/second_look.py --data DATA_FOLDER
    python examples/benchmarks/second_look.py --configs efficientnet-lite0 \\
        --images FOLDER_OR_NPZ --ood NAME=PATH NAME=PATH

Classifiers and attacks are those of ``separation.py`` and ``pretrained.py``, and PGD with a smooth
perturbation. Every step is stored when it is done; an interrupted run goes on where it stopped.
Writes ``second_look.csv`` (every number) and ``second_look.md`` (the targets and what was
reached); rows of configurations that are not run now stay.
"""

import argparse

import pandas
from options import add_photographs, benchmark_parser, ood_paths
from photographs import read_images, split_photographs
from prepare import BENCHMARK, CONFIGS
from second_look_images import Material, pretrained_material, small_material
from second_look_report import report
from second_look_rows import rows
from second_look_scores import load_answers
from tables import keep, save_page

from pytorch_ood_viyog.benchmark.model_names import named_model

PRETRAINED = "efficientnet-lite0"
SIZE, FIT, ATTACKED = 224, 150, 100


def material(name: str, options: argparse.Namespace) -> Material:
    """:return: model and images of a configuration"""
    if name != PRETRAINED:
        return small_material(name, options.data, options.cache, options.n)
    photographs = split_photographs(read_images(options.images, SIZE), FIT, ATTACKED)
    ood = {each: read_images(path, SIZE) for each, path in ood_paths(options).items()}
    model = named_model(name)
    return pretrained_material(name, model, photographs, ood, options.cache, options.n)


def arguments() -> argparse.Namespace:
    """:return: the command line"""
    parser = benchmark_parser(__doc__, needs_data=False)
    add_photographs(parser)
    add = parser.add_argument
    add("--configs", nargs="+", choices=[*CONFIGS, PRETRAINED], default=BENCHMARK)
    add("--n", type=int, default=60, help="images of each attack, default: 60")
    add("--no-baselines", action="store_true", help="half the time")
    add("--fresh", action="store_true", help="use no stored scores")
    options = parser.parse_args()
    if options.data is None and set(options.configs) != {PRETRAINED}:
        parser.error("--data is needed for these configurations")
    if options.images is None and PRETRAINED in options.configs:
        parser.error(f"--images is needed for {PRETRAINED}")
    return options


def main() -> None:
    """Runs the command line."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "second_look.csv"
    for name in options.configs:
        answers = load_answers(
            material(name, options), options.cache, not options.no_baselines, options.fresh
        )
        keep(rows(name, answers), path, by="config")
        text = report(pandas.read_csv(path))
        save_page(path.with_suffix(".md"), text, __file__)
        print(f"{text}\nwritten to {path.with_suffix('.md')}", flush=True)


if __name__ == "__main__":
    main()
