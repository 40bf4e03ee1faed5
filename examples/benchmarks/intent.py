"""Is a residue an attack, or did a camera, a codec or an editor leave it? Against the targets.

.. code-block:: bash

    python examples/benchmarks/intent.py --data DATA_FOLDER
    python examples/benchmarks/intent.py --images FOLDER_OR_NPZ --ood NAME=PATH NAME=PATH

Classifiers and attacks are those of ``separation.py`` (``--data``) and of EfficientNet-Lite0 in
``pretrained.py`` (``--images``). Scores are stored when a configuration is done; an interrupted
run goes on where it stopped. Writes ``intent.csv`` (every number) and ``intent.md`` (the targets
and what was reached); rows of configurations that are not run now stay in them.
"""

import argparse

import pandas
from intent_report import report, rows
from intent_scores import PRETRAINED, Parts, load_scores, pretrained_parts, small_parts
from options import add_photographs, benchmark_parser, ood_paths
from prepare import BENCHMARK, CONFIGS
from tables import save_page

_RESIDUES = ("gradients", "filters")


def _arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__, needs_data=False)
    add_photographs(parser)
    add = parser.add_argument
    add("--configs", nargs="+", choices=CONFIGS, default=BENCHMARK)
    add("--residues", nargs="+", choices=_RESIDUES, default=_RESIDUES, help="default: both")
    add("--n", type=int, default=150, help="images of each kind, default: 150")
    add("--sample-size", type=int, default=256, help="images to simulate on, default: 256")
    add("--fresh", action="store_true", help="use no stored scores")
    return parser.parse_args()


def _run(arguments: argparse.Namespace, name: str, parts: Parts) -> None:
    for residues in arguments.residues:
        size, cache = arguments.sample_size, arguments.cache
        found = load_scores(name, parts, residues, size, cache, arguments.fresh)
        table = pandas.DataFrame(rows(name, residues, *found))
        table["sample_size"] = size
        path = arguments.out / "intent.csv"
        if path.exists():
            known = pandas.read_csv(path)
            table = pandas.concat(
                [known[(known["config"] != name) | (known["residues"] != residues)], table]
            )
        table.to_csv(path, index=False, float_format="%.5g")
        text = report(table)
        save_page(arguments.out / "intent.md", text, __file__)
        print(f"{name}, {residues}: written to {path}", flush=True)


def main() -> None:
    """Runs the command line."""
    arguments = _arguments()
    if arguments.data is None and arguments.images is None:
        raise SystemExit("Give --data, --images, or both.")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.data is not None:
        for name in arguments.configs:
            _run(arguments, name, small_parts(name, arguments.data, arguments.cache, arguments.n))
    if arguments.images is not None:
        ood, n = ood_paths(arguments), arguments.n
        parts = pretrained_parts(arguments.images, ood, arguments.cache, n)
        _run(arguments, PRETRAINED, parts)


if __name__ == "__main__":
    main()
