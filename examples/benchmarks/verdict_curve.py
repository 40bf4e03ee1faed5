"""How many calibration images a rule should be learnt from: what verdicts are worth, and what the
fit costs, by ``simulate_on``.

.. code-block:: bash

    python examples/benchmarks/verdict_curve.py --data DATA_FOLDER

Thresholds are set on all other calibration images. Results are kept in the cache: an
interrupted run goes on where it stopped.
"""

from options import benchmark_parser
from sources import key, stored
from tables import markdown, save_page
from verdict_images import small_material
from verdicts import Row, judged, shares, summary

MODELS = ("gtsrb-3x3", "photo15-3x3")
COUNTS = (30, 100, 200, 300)
#: columns: heading -> what it is of
SHOWN = {
    "ID alarms": "ID alarms",
    "OOD": "OOD → OOD",
    "L∞ 8": "L∞ 8 → ADV",
    "L∞ 2": "L∞ 2 → ADV",
    "minimal": "minimal L2 → ADV",
    "smooth": "smooth → ADV",
    "benign → ADV": "benign → ADV",
    "four-way": "four-way",
    "fit, CPU s": "fit_cpu_s",
}
ABOUT = """# How many images a rule is learnt from

`Triage(model, simulate_on=...)` for two models, all else as in [verdicts](verdicts.md): shares
called what they are, and CPU time of the fit, nearly all of it the model's own passes over what is
simulated. Fewer images find fewer attacks: the default stays 300."""


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--models", nargs="+", default=[*MODELS])
    parser.add_argument("--n", type=int, default=100, help="attacked images, default: 100")
    options = parser.parse_args()
    lines = [["model", "images", *SHOWN]]
    for name in options.models:
        material = small_material(name, options.data, options.cache, options.n)
        for count in COUNTS:
            known = key(__file__, material.model, material.groups, count)
            path = options.cache / "curve" / name / f"{count}.pt"

            def made(material=material, count: int = count) -> tuple[object, Row]:
                return judged(material, {"simulate_on": count})

            found, more = stored(path, known, False, made)
            row = summary(shares(found)) | more
            lines.append([name, f"{count}", *(f"{row[column]:.3g}" for column in SHOWN.values())])
            print(lines[-1], flush=True)
    text = f"{ABOUT}\n\n{markdown(lines)}"
    save_page(options.out / "verdict_curve.md", text, __file__)


if __name__ == "__main__":
    main()
