"""
One file that a colleague opens: the results of a benchmark and a triage as an HTML page.

EfficientNet-Lite0 judges photographs, other images, attacked and noisy photographs, all of which
come with installed packages. Takes some minutes on two CPU cores:

    python examples/detectors/report.py
"""

import argparse
from pathlib import Path

import foolbox
import torch
from packaged_images import OTHERS, PHOTOGRAPHS, crops, halves, read
from pytorch_ood.detector import EnergyBased, MaxSoftmax
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog import Triage, ViyogResidue, ViyogTV
from pytorch_ood_viyog.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.benchmark.attacks import FoolboxAttack
from pytorch_ood_viyog.benchmark.model_names import named_model
from pytorch_ood_viyog.images import BenignChange


def batches(images: Tensor) -> DataLoader:
    """:return: a loader of the images, labelled as ID"""
    return DataLoader(TensorDataset(images, torch.zeros(len(images)).long()), batch_size=16)


def pgd(budget: int) -> FoolboxAttack:
    """:return: an attack that changes no pixel by more than so many of 255 levels"""
    return FoolboxAttack(foolbox.attacks.LinfPGD(steps=10, rel_stepsize=0.25), budget / 255)


def main() -> None:
    """Measures, judges, writes ``report.html``."""
    parser = argparse.ArgumentParser(description="A benchmark and a triage as one HTML page.")
    parser.add_argument("--out", type=Path, default=Path("output/report"), help="output folder")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = named_model("efficientnet-lite0")

    # detectors see one half of each photograph, and are tested on the other
    # crops overlap, so that alarms look rarer than on new images
    pairs = [halves(read(*file)) for file in PHOTOGRAPHS.values()]
    fit_images = torch.cat([crops(seen, 3, 3) for seen, _ in pairs])
    # calibrated on crops of the half that is judged: those of the other one are no such images
    drawn = [crops(unseen, 5, 4)[torch.randperm(20)] for _, unseen in pairs]
    id_images = torch.cat([each[:3] for each in drawn])
    calibration_images = torch.cat([each[3:] for each in drawn])
    other_images = torch.cat([crops(read(*file), 3, 1) for file in OTHERS.values()])
    with torch.no_grad():
        answers = model(id_images).argmax(dim=1)

    triage = Triage(model, id_fpr=0.1, noisy_fpr=0.1)
    triage.fit(batches(fit_images), batches(calibration_images))

    bench = AdversarialBenchmark(
        model,
        (id_images, answers),
        {"other images": other_images},
        {"PGD 8/255": pgd(8), "PGD 2/255": pgd(2)},
        id_train=TensorDataset(fit_images, torch.zeros(len(fit_images)).long()),
        benign=[BenignChange("white noise", 4)],
        attacked=16,
        batch_size=8,
    )
    detectors = [MaxSoftmax(model), EnergyBased(model), ViyogTV(model), ViyogResidue(model)]
    bench.evaluate(detectors, fit=True)
    title = "EfficientNet-Lite0 on photographs"
    print(bench.report(options.out / "report.html", triage=triage, title=title))


if __name__ == "__main__":
    main()
