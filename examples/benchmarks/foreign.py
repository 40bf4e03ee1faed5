"""Other people's attacks: what runs, what survives rounding, who sees it, and what verdicts say.

.. code-block:: bash

    python examples/benchmarks/foreign.py --data DATA_FOLDER
    python examples/benchmarks/foreign.py --data DATA_FOLDER --verdicts

More than 100 attacks of foolbox, torchattacks, ART, adv-lib and secml-torch, whichever are
installed (the guide page "Attacks of other libraries" says how), and some of ours, each with few
steps and stopped after ``--seconds`` of CPU. Detectors of other libraries stand beside ours where
these are installed. Attacked images and scores are kept in the cache folder as they come: a run
that is stopped goes on where it was, and verdicts are made of the stored images. What failed is
not tried again before the folder ``foreign/failed`` of the cache is deleted.
"""

import contextlib
import io
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

from feature_squeezing import FeatureSqueezing
from foreign_list import LIBRARIES, foreign_attacks
from foreign_report import page
from images import CLASSES, fit_images, test_images, train_images
from models import convolution, load_or_train
from options import benchmark_parser
from prepare import load_model, load_ood
from sources import fingerprint
from tables import save_page
from torch import Tensor, nn

from pytorch_ood_viyog import Triage, ViyogResidue, ViyogTV
from pytorch_ood_viyog.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.benchmark.attacks import as_attack
from pytorch_ood_viyog.benchmark.attacks.keys import described
from pytorch_ood_viyog.benchmark.baselines import baseline_detectors
from pytorch_ood_viyog.detectors.residue_view import ResidueView
from pytorch_ood_viyog.looks import SecondLook

_IMAGES, _SURROGATE = "gtsrb", "gtsrb-3x3"
_OOD = ("aerial", "handsign", "objects")
_THEIRS = ("MSP", "Mahalanobis", "kNN", "ViM")
_BATCH = 50


class Limited:
    """
    An attack that is stopped after some seconds of CPU, whose prints are not shown, and that is
    not tried again where it failed.
    """

    def __init__(self, attack: Any, seconds: float, failed: Path) -> None:
        self.attack = attack
        self.seconds = seconds
        self._failed = failed

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        if self._failed.exists():
            raise RuntimeError(self._failed.read_text(encoding="utf-8"))
        try:
            return self._run(model, x, y)
        except Exception as error:
            self._failed.parent.mkdir(parents=True, exist_ok=True)
            self._failed.write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
            raise

    def _run(self, model: nn.Module, x: Tensor, y: Tensor) -> Any:
        def stop(*_: object) -> None:
            raise TimeoutError(f"over {self.seconds:g} s of CPU, stopped")

        before = signal.signal(signal.SIGVTALRM, stop)
        # again each second, as some attacks catch what is raised within them
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds, 1)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return self.attack(model, x, y)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)


def classifier(options: Any) -> nn.Module:
    """:return: three convolutions, so that 140 attacks take minutes; trained at first"""
    model = nn.Sequential(
        *convolution(3, 32, stride=2),
        nn.MaxPool2d(2),
        *convolution(32, 64),
        nn.MaxPool2d(2),
        *convolution(64, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES[_IMAGES]),
    )
    path = options.cache / "models" / "foreign.pt"
    return load_or_train(path, model, lambda: train_images(_IMAGES, options.data), 10, flip=False)


def built(options: Any) -> tuple[AdversarialBenchmark, dict[str, str]]:
    """:return: the benchmark, in which nothing has run yet, and what could not be made"""
    cache, model = options.cache / "foreign", classifier(options)
    surrogate = load_model(_SURROGATE, options.data, options.cache)
    fit, test = fit_images(_IMAGES, options.data), test_images(_IMAGES, options.data)
    everything = load_ood(_SURROGATE, options.data)
    made, problems = foreign_attacks(
        model, surrogate, test.x.shape[1:], CLASSES[_IMAGES], options.libraries
    )
    attacks = {}
    for name, attack in made.items():
        limited = Limited(attack, options.seconds, cache / "failed" / f"{name}.txt")
        # images are those of the attack itself, however long it may take
        key = described(attack, {id(model): "the model"})
        attacks[name] = as_attack(limited, key=key)
    bench = AdversarialBenchmark(
        model,
        (test.x[: options.test], test.y[: options.test]),
        {name: everything[name][: options.test // 2] for name in _OOD},
        attacks,
        id_train=(fit.x[: options.fit], fit.y[: options.fit]),
        attacked=options.attacked,
        min_images=5,
        resamples=0,
        cache=cache,
    )
    return bench, problems


def detectors(bench: AdversarialBenchmark) -> dict[str, Any]:
    """:return: ours, those of pytorch-ood, and those of other libraries that are installed"""
    model, (x, _) = bench.model, bench.train_set()[0]
    residue = ViyogResidue(model)
    return {
        "ViyogResidue": residue,
        "ResidueOutlier": ResidueView(residue, reading="outlier"),
        "ViyogTV": ViyogTV(model),
        "SecondLook": SecondLook(model),
        "FeatureSqueezing": FeatureSqueezing(model),
        **baseline_detectors(model, x[None], list(_THEIRS)),
    }


def verdicts(bench: AdversarialBenchmark, options: Any) -> list[dict[str, Any]]:
    """
    :return: rows of verdicts; the triage is fitted to the images that detectors are, and
        calibrated on test images that are not in the table
    """
    fit = fit_images(_IMAGES, options.data)[slice(options.fit)]
    held = test_images(_IMAGES, options.data)[slice(options.test, options.test + 600)]
    batches = list(zip(fit.x.split(_BATCH), fit.y.split(_BATCH), strict=True))
    triage = Triage(bench.model).fit(batches, list(held.x.split(_BATCH)))
    return bench.verdicts(triage)


def forget_old_scores(cache: Path) -> None:
    """
    Scores belong to a version of the package, which stays while it is worked on.

    :param cache: folder of attacked images and scores, of which those of other sources are removed
    """
    made_by = cache / "scores_by.txt"
    if made_by.is_file() and made_by.read_text(encoding="utf-8") == fingerprint(__file__):
        return
    for folder in cache.glob("scores-*"):
        shutil.rmtree(folder)
    cache.mkdir(parents=True, exist_ok=True)
    made_by.write_text(fingerprint(__file__), encoding="utf-8")


def main() -> None:
    """Runs the command line."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--attacked", type=int, default=40, help="images, default: 40")
    parser.add_argument("--test", type=int, default=300, help="ID images, default: 300")
    parser.add_argument("--fit", type=int, default=1000, help="images to fit on, default: 1000")
    parser.add_argument("--seconds", type=float, default=8, help="CPU per attack, default: 8")
    parser.add_argument(
        "--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES), help="default: all"
    )
    parser.add_argument("--verdicts", action="store_true", help="verdicts of Triage as well")
    options = parser.parse_args()
    forget_old_scores(options.cache / "foreign")
    bench, problems = built(options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each failure is a row
        bench.evaluate(detectors(bench), fit=True)
        found = verdicts(bench, options) if options.verdicts else []
    path = Path(options.out) / "foreign.md"
    save_page(path, page(bench, problems, found, options), __file__)
    bench.save(options.cache / "foreign" / "rows")
    print(path)


if __name__ == "__main__":
    main()
