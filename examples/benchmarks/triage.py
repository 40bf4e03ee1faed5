"""How good are the verdicts ID, OOD, ADV? All gates alone and combined, thresholds from ID alone.

.. code-block:: bash

    python examples/benchmarks/triage.py --data DATA_FOLDER

Models and attacks come from ``prepare.py``'s cache, or are made now. Detectors are fitted on the
images the classifier was trained on (CIFAR-10: on other images); the test images, which it never
saw, are halved at random: one half sets the thresholds, the other half is judged, together with
the OOD sets and the successful attacks on images of that other half. All numbers are means over
the halvings.
"""

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from images import fit_images, test_images
from prepare import ATTACKS, CONFIGS, load_attack, load_model, load_ood
from pytorch_ood.api import Detector
from pytorch_ood.detector import (
    DICE,
    GEN,
    GMM,
    KNN,
    LTS,
    NCI,
    PNML,
    RMD,
    EnergyBased,
    Entropy,
    KLMatching,
    Mahalanobis,
    MaxLogit,
    MaxSoftmax,
    NNGuide,
    ViM,
    fDBD,
)
from torch import Tensor, nn
from triage_tables import Rule, Scores, ScoresOfConfig, evaluate, print_table

import pytorch_ood_viyog
from pytorch_ood_viyog import ViyogResidue, ViyogTV
from pytorch_ood_viyog.attack_cache import digest
from pytorch_ood_viyog.residue_outlier import ResidueOutlier
from pytorch_ood_viyog.shared import SharedForward

GATES: dict[str, Callable[[nn.Linear], Detector]] = {
    "MSP": lambda head: MaxSoftmax(None),
    "MaxLogit": lambda head: MaxLogit(None),
    "Energy": lambda head: EnergyBased(None),
    "Entropy": lambda head: Entropy(None),
    "GEN": lambda head: GEN(None),
    "KLMatching": lambda head: KLMatching(None),
    "Mahalanobis": lambda head: Mahalanobis(None),
    "RMD": lambda head: RMD(None),
    "GMM": lambda head: GMM(None, reg=1e-2),
    "kNN": lambda head: KNN(None, k=5),
    "ViM": lambda head: ViM(None, d=64, w=head.weight, b=head.bias),
    "DICE": lambda head: DICE(None, head.weight, head.bias, p=0.7),
    "LTS": lambda head: LTS(None, head),
    "NNGuide": lambda head: NNGuide(None, head),
    "NCI": lambda head: NCI(None, head),
    "pNML": lambda head: PNML(None, head),
    "fDBD": lambda head: fDBD(None, head),
}
OUTLIER = "first layer"
ROUTER = "ViyogResidue"
RECOMMENDED = ("Energy", "fDBD", OUTLIER)
COMBINATIONS = (
    ("Energy", OUTLIER),
    ("fDBD", OUTLIER),
    ("Energy", "fDBD"),
    ("Energy", "ViM"),
    ("Energy", "kNN"),
    ("Energy", "fDBD", "kNN"),
    ("Energy", "fDBD", "ViM"),
    ("Energy", "kNN", OUTLIER),
    ("Energy", "ViM", OUTLIER),
    RECOMMENDED,
    ("Energy", "fDBD", "ViM", OUTLIER),
    ("Energy", "fDBD", "kNN", OUTLIER),
    ("Energy", "fDBD", "kNN", "ViM", OUTLIER),
)


def build_pipeline(model: nn.Module) -> SharedForward:
    """:return: all gates and both routers on ``model``"""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    router = ViyogResidue(None)
    gates = {name: make(head) for name, make in GATES.items()}
    first_layer = {OUTLIER: ResidueOutlier(router), ROUTER: router, "ViyogTV": ViyogTV(None)}
    return SharedForward(model, gates | first_layer)


def score_everything(name: str, data: Path, cache: Path) -> ScoresOfConfig:
    """
    :param name: a key of ``prepare.CONFIGS``
    :return: scores of all detectors for test images, OOD sets and attacks
    """
    model = load_model(name, data, cache)
    images = CONFIGS[name].images
    fit, test = fit_images(images, data), test_images(images, data)
    pipeline = build_pipeline(model)
    # Mahalanobis wants labels without gaps
    labels = torch.unique(fit.y, return_inverse=True)[1]
    pipeline.fit(list(zip(fit.x.split(200), labels.split(200), strict=True)))

    def score(x: Tensor) -> Scores:
        table = pipeline.score(x.split(200))
        return {detector: table[detector].double() for detector in pipeline.detectors}

    attacked = {a: load_attack(name, a, model, test, cache) for a in ATTACKS}
    return ScoresOfConfig(
        id=score(test.x),
        ood={ood: score(x) for ood, x in load_ood(name, data).items()},
        adv={attack: score(found.x) for attack, found in attacked.items()},
        attacked={attack: found.index for attack, found in attacked.items()},
    )


def load_scores(name: str, data: Path, cache: Path) -> ScoresOfConfig:
    """:return: :func:`score_everything`, stored under the model's weights and the code's text"""
    sources = [*Path(pytorch_ood_viyog.__file__).parent.glob("*.py"), Path(__file__)]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    nothing = torch.empty(0)
    key = digest(load_model(name, data, cache), nothing, nothing, code)
    path = cache / "triage" / f"{name}-{key}.pt"
    if path.exists():
        return ScoresOfConfig(**torch.load(path, weights_only=True))
    scores = score_everything(name, data, cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(vars(scores), path)
    return scores


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .npz files")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--halvings", type=int, default=20, help="default: 20")
    parser.add_argument("--quick", action="store_true", help="one model, two halvings")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.configs, arguments.halvings = ["gtsrb-3x3"], 2
    scores = {n: load_scores(n, arguments.data, arguments.cache) for n in arguments.configs}

    def table(title: str, rules: dict[str, Rule]) -> None:
        rows = {}
        for label, rule in rules.items():
            measured = [evaluate(s, rule, arguments.halvings) for s in scores.values()]
            rows[label] = {
                key: sum(m[key] for m in measured) / len(measured) for key in measured[0]
            }
        print_table(title, rows)

    alone = {gate: Rule((gate,), ROUTER) for gate in (*GATES, OUTLIER)}
    table(f"one gate, router {ROUTER}, mean of {list(scores)}", alone)
    for combine in ("fused", "any"):
        rules = {"+".join(g): Rule(g, ROUTER, combine=combine) for g in COMBINATIONS}
        table(f"several gates, {combine}, router {ROUTER}", rules)
    shares = {
        f"router share {s}": Rule(RECOMMENDED, ROUTER, share=s)
        for s in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    }
    table(f"{'+'.join(RECOMMENDED)}, fused", shares)
    table("the published router", {"Energy, ViyogTV": Rule(("Energy",), "ViyogTV")})
    rows = {
        n: evaluate(s, Rule(RECOMMENDED, ROUTER), arguments.halvings) for n, s in scores.items()
    }
    print_table(f"{'+'.join(RECOMMENDED)}, fused, by ID set and stem", rows)


if __name__ == "__main__":
    main()
