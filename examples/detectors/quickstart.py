"""
Quickstart: verdicts on the inputs of a pretrained classifier, and the detectors behind them.

EfficientNet-Lite0 with its ImageNet weights judges photographs (ID), other images (OOD) and
attacked photographs (ADV). All of them come with installed packages: nothing is downloaded, and
it takes some minutes on two CPU cores:

    python examples/detectors/quickstart.py

It is a demonstration on a few images; examples/benchmarks measures on many.
"""

# %%
import argparse
from pathlib import Path

import foolbox
import torch
from packaged_images import OTHERS, PHOTOGRAPHS, crops, halves, read
from pytorch_ood.detector import KNN, EnergyBased, MaxSoftmax
from pytorch_ood.metrics.functional import auroc
from quickstart_figure import draw
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog import SharedForward, Triage, Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.benchmark.attacks import FoolboxAttack, craft
from pytorch_ood_viyog.benchmark.model_names import named_model
from pytorch_ood_viyog.images import BenignChange

parser = argparse.ArgumentParser(description="ID, OOD and attacked images, told apart.")
parser.add_argument("--quick", action="store_true", help="fewer images and steps, for CI")
parser.add_argument("--out", type=Path, default=Path("output/quickstart"), help="output folder")
options = parser.parse_args()
torch.manual_seed(0)

# %%
# A classifier of images in [0, 1], as pip installs it: the normalisation is part of the model.
model = named_model("efficientnet-lite0")

# %%
# In-distribution (ID): crops of eight photographs, 224 pixels wide. Detectors are fitted to one
# half of each; crops of the other half are drawn by chance, most to calibrate on, three to test.
# Out-of-distribution (OOD): crops of images of other kinds.
pairs = [halves(read(*file)) for file in PHOTOGRAPHS.values()]
fit_images = torch.cat([crops(seen, 3, 3) for seen, _ in pairs])
drawn = [crops(unseen, 5, 4)[torch.randperm(20)] for _, unseen in pairs]
id_images = torch.cat([each[:3] for each in drawn])
calibration_images = torch.cat([each[3:] for each in drawn])
ood_images = torch.cat([crops(read(*file), 3, 1) for file in OTHERS.values()])

# %%
# Adversarial (ADV): PGD changes no pixel by more than 8 or 4 of 255 levels. No labels are needed:
# the answer of the model itself is attacked. `craft` rounds to 8 bit, as an image file would, and
# keeps what still changes the answer.
victims = id_images[::3]  # a crop of each photograph
if not options.quick:
    victims = torch.cat([victims, id_images[1::3]])
steps = 5 if options.quick else 10
with torch.no_grad():
    answers = model(victims).argmax(dim=1)
adversarial = {}
for budget in (8, 4):
    pgd = foolbox.attacks.LinfPGD(steps=steps, rel_stepsize=2.5 / steps)
    attack = FoolboxAttack(pgd, budget / 255)
    examples = craft(model, attack, victims, answers, name=f"PGD {budget}/255", batch_size=4)
    adversarial[f"PGD {budget}/255"] = examples.x
    size = examples.size
    print(f"PGD {budget}/255: {size.succeeded} of {size.attacked} photographs change their class")

# %%
# The detectors, in one forward pass. All scores are larger for the anomaly that is looked for:
# OOD (or any anomaly) for pytorch-ood's, ADV for those that read the first convolution.
pipeline = SharedForward(
    model,
    {
        "MaxSoftmax": MaxSoftmax(None),
        "EnergyBased": EnergyBased(None),
        "KNN": KNN(None, k=5),
        "Viyog": Viyog(model),
        "ViyogTV": ViyogTV(model),
        "ViyogResidue": ViyogResidue(model),
    },
)


def batches(images: Tensor) -> DataLoader:
    """:return: a loader of the images, labelled as ID"""
    return DataLoader(TensorDataset(images, torch.zeros(len(images)).long()), batch_size=16)


pipeline.fit(batches(fit_images))
groups = {"ID": id_images, "OOD": ood_images} | adversarial
scores = {name: pipeline.score(batches(images)) for name, images in groups.items()}


# %%
# AUROC, the probability that a positive image has the larger score. It is never folded: below 0.5
# the scores separate in the wrong direction.
def separation(detector: str, negative: str, positive: str) -> float:
    """:return: AUROC of the scores of two groups"""
    samples = scores[negative][detector], scores[positive][detector]
    classes = torch.cat([torch.zeros(len(samples[0])), -torch.ones(len(samples[1]))])
    return float(auroc(torch.cat(samples), classes))


tasks = [("ID", "OOD"), *((negative, name) for negative in ("ID", "OOD") for name in adversarial)]
print(f"\nAUROC ({', '.join(f'{len(images)} {name}' for name, images in groups.items())})\n")
print("| |", " | ".join(f"{negative}-vs-{positive}" for negative, positive in tasks), "|")
print("|---" * (len(tasks) + 1) + "|")
for detector in pipeline.detectors:
    cells = [f"{separation(detector, *task):.3f}" for task in tasks]
    print(f"| {detector} | {' | '.join(cells)} |")

# %%
# Verdicts, learnt from the calibration images alone: as they are, changed by a camera or codec,
# attacked on this model, and cut up into foreign ones: 40 of them, to be quick; the others set
# thresholds. A photograph may raise a false alarm with a probability of 10 %. These crops overlap
# each other and those they are tested on. Take a few hundred images of your own.
triage = Triage(model, id_fpr=0.1, noisy_fpr=0.1, simulate_on=40)
triage.fit(batches(fit_images), batches(calibration_images))
attacked = torch.cat(list(adversarial.values()))
noisy_images = BenignChange("white noise", 8)(id_images)
print(f"\nTriage, false alarms at most {triage.id_fpr:.0%}:")
print(triage.report(id_images, ood_images, attacked, noisy=noisy_images))
print("\nWhy, for a photograph, another image, an attacked photograph:")
print(triage.explain(torch.stack([id_images[1], ood_images[1], attacked[0]])))

# %%
# The figure: what people see, the verdicts, and what Energy and the first convolution say.
strong, weak = adversarial.values()
residue = pipeline["ViyogResidue"]
figure = draw(
    {"ID": victims[:6], "OOD": ood_images[1::3][:6], "ADV": torch.cat([strong[:3], weak[3:6]])},
    lambda images: 255 * residue.noise_floor(images),
    triage.predict,
    {
        detector: {
            "ID": scores["ID"][detector],
            "OOD": scores["OOD"][detector],
            "ADV": torch.cat([scores[name][detector] for name in adversarial]),
        }
        for detector in ("EnergyBased", "ViyogResidue")
    },
)
options.out.mkdir(parents=True, exist_ok=True)
figure.savefig(options.out / "scores.png", dpi=120)
print(f"\nfigure: {options.out / 'scores.png'}")
print(
    "Your own model: Triage(model).fit(train_loader, calibration_loader), with 100 calibration "
    "images or more\nthat the model was not trained on, best several hundred; then "
    "triage.predict(images)."
)
