"""What the triage benchmark judges: scores of all gates and routers, stored in a cache folder."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from images import fit_images, test_images
from intent_scores import CHANGES
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
from triage_tables import Scores, ScoresOfConfig

import pytorch_ood_viyog
from pytorch_ood_viyog import ViyogResidue, ViyogTV
from pytorch_ood_viyog.benchmark.attacks.cache import digest
from pytorch_ood_viyog.detectors.intent import ViyogIntent
from pytorch_ood_viyog.detectors.residue_alarm import ResidueAlarm
from pytorch_ood_viyog.detectors.residue_outlier import ResidueOutlier
from pytorch_ood_viyog.pipeline.shared_forward import SharedForward

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
ALARM = "ResidueAlarm"
INTENT = "ViyogIntent"


def build_pipeline(model: nn.Module) -> SharedForward:
    """:return: all gates, both routers and the alarm on ``model``"""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    router = ViyogResidue(None, sample_size=2048)
    gates = {name: make(head) for name, make in GATES.items()}
    residue = {OUTLIER: ResidueOutlier(router), ALARM: ResidueAlarm(router), ROUTER: router}
    own = residue | {INTENT: ViyogIntent(model), "ViyogTV": ViyogTV(None)}
    return SharedForward(model, gates | own)


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
    parts = enumerate(test.x.split(200))
    changed = [pipeline[INTENT].benign_scores(x, seed=seed) for seed, x in parts]
    return ScoresOfConfig(
        id=score(test.x),
        ood={ood: score(x) for ood, x in load_ood(name, data).items()},
        adv={attack: score(found.x) for attack, found in attacked.items()},
        attacked={attack: found.index for attack, found in attacked.items()},
        least_adv=pipeline[ROUTER].least_adv,
        benign={str(change): score(change(test.x)) for change in CHANGES},
        changed=torch.cat(changed).double(),
    )


def load_scores(name: str, data: Path, cache: Path) -> ScoresOfConfig:
    """:return: :func:`score_everything`, stored under the model's weights and the code's text"""
    sources = [*Path(pytorch_ood_viyog.__file__).parent.rglob("*.py"), Path(__file__)]
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
