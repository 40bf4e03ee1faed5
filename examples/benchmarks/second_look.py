"""How well a second look finds attacks, against the project's targets.

.. code-block:: bash

    python examples/benchmarks/second_look.py --data DATA_FOLDER

Classifiers and attacks are those of ``separation.py``, and PGD with a smooth perturbation. Every
step is stored when it is done; an interrupted run goes on where it stopped. Writes
``second_look.csv`` (every number) and ``second_look.md`` (the targets and what was reached).
"""

import argparse
from pathlib import Path

import pandas
from prepare import BENCHMARK, CONFIGS
from second_look_report import report, rows
from second_look_scores import load_answers, load_small


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .npz files")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results",
        help="folder of the tables, default: results beside this script",
    )
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=BENCHMARK)
    parser.add_argument("--n", type=int, default=100, help="images of each attack, default: 100")
    parser.add_argument("--fresh", action="store_true", help="use no stored scores")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = []
    for name in arguments.configs:
        setting = load_small(name, arguments.data, arguments.cache)
        answers = load_answers(setting, arguments.cache, arguments.n, arguments.fresh)
        found += rows(name, answers)
        table = pandas.DataFrame(found)
        table.to_csv(arguments.out / "second_look.csv", index=False, float_format="%.5g")
        text = report(table)
        path = arguments.out / "second_look.md"
        path.write_text(text, encoding="utf-8")
        print(f"{text}\nwritten to {path}", flush=True)


if __name__ == "__main__":
    main()
