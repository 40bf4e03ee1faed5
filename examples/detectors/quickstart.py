"""
Quickstart: tell adversarial from out-of-distribution inputs, next to pytorch-ood's detectors.

Trains a small CNN on scikit-learn's digits, attacks its test images, takes crops of photographs
as OOD inputs, and prints how well each detector separates the three. Needs no download and less
than a minute on a CPU:

    python examples/detectors/quickstart.py

It is a demonstration on 8×8 images; examples/benchmarks measures on real ones.
"""

# %%
import argparse
from pathlib import Path

import foolbox
import matplotlib
import numpy as np
import pandas as pd
import torch
from pytorch_ood.detector import EnergyBased, Mahalanobis, MaxSoftmax
from pytorch_ood.metrics.functional import auroc
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.benchmark.attacks.craft import FoolboxAttack, craft, round_to_8_bit

matplotlib.use("Agg")
from matplotlib import pyplot as plt

parser = argparse.ArgumentParser(description="Viyog next to pytorch-ood's detectors on digits.")
parser.add_argument("--quick", action="store_true", help="fewer epochs and images, for CI")
parser.add_argument("--out", type=Path, default=Path("output/quickstart"), help="output folder")
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)

# %%
# In-distribution (ID): 1,797 handwritten digits of 8×8 pixels. The classifier and the detectors
# see the first 1,000; of the others, half stay clean and half are attacked.
pixels, labels = load_digits(return_X_y=True)
digits = round_to_8_bit(torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8))
digit_labels = torch.tensor(labels)
train_set = TensorDataset(digits[:1000], digit_labels[:1000])
id_images = digits[1000::2]
victims, victim_labels = digits[1001::2], digit_labels[1001::2]
if options.quick:
    victims, victim_labels = victims[:100], victim_labels[:100]


# %%
# Out-of-distribution (OOD): scikit-learn's two sample photographs, in grey. The digits were made
# by averaging 4×4 blocks of 32×32 scans, so the crops are made in the same way. Crops of 8×8
# pixels would be flat patches, and interpolated ones too smooth: easy for the wrong reason.
def photograph_crops() -> Tensor:
    """:return: grey crops (N, 1, 8, 8) in [0, 1] of a regular grid over both photographs"""
    photographs = np.stack(load_sample_images().images)  # (2, 427, 640, 3)
    grey = torch.tensor(photographs / 255, dtype=torch.float32).mean(dim=3)
    blocks = functional.avg_pool2d(grey.unsqueeze(1), 4)
    crops = blocks.unfold(2, 8, 8).unfold(3, 8, 8)
    return round_to_8_bit(crops.reshape(-1, 1, 8, 8))


ood_images = photograph_crops()


# %%
# A small classifier, trained in seconds.
class Net(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(5 if options.quick else 30):
    for x, y in DataLoader(train_set, batch_size=50, shuffle=True):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
model.eval()
with torch.no_grad():
    correct = (model(digits[1000:]).argmax(dim=1) == digit_labels[1000:]).float().mean()
print(f"accuracy on {len(digits) - 1000} test digits: {correct:.3f}")

# %%
# Adversarial (ADV): FGSM and PGD with foolbox. `craft` rounds to 8 bit, as an image file would,
# and keeps what still changes a correct prediction. Digits have strong contrast, so the budget is
# larger than the 8/255 that is usual for photographs.
EPSILON = 32 / 255
steps = 5 if options.quick else 40
attacks = {
    "FGSM": FoolboxAttack(foolbox.attacks.LinfFastGradientAttack(), EPSILON),
    "PGD": FoolboxAttack(foolbox.attacks.LinfPGD(rel_stepsize=2.5 / steps, steps=steps), EPSILON),
}
adversarial = {}
for name, attack in attacks.items():
    examples = craft(model, attack, victims, victim_labels, progress=False)
    adversarial[name] = examples.x
    size = examples.size
    print(
        f"{name}: {size.succeeded} of {size.attacked} attacked digits misclassified, "
        f"largest change {size.linf:.0f}/255"
    )

# %%
# The detectors. All scores are larger for the anomaly that is looked for: OOD (or any anomaly)
# for pytorch-ood's, ADV for those that read the first convolution.
detectors = {
    "MaxSoftmax": MaxSoftmax(model),
    "EnergyBased": EnergyBased(model),
    "Mahalanobis": Mahalanobis(model.features),
    "Viyog": Viyog(model, bounded=False),  # unbounded: the same ranks, easier to draw
    "ViyogTV": ViyogTV(model),
    "ViyogResidue": ViyogResidue(model),
}
groups = {"ID": id_images, "OOD": ood_images, "ADV": torch.cat(list(adversarial.values()))}
scores = {}
for name, detector in detectors.items():
    detector.fit(DataLoader(train_set, batch_size=100))
    with torch.no_grad():
        scores[name] = {group: detector(images) for group, images in groups.items()}


# %%
# AUROC of the three questions one can ask. It is never folded: 0.2 means that the scores separate
# in the wrong direction, 0.5 that they do not separate.
def separation(negative: Tensor, positive: Tensor) -> float:
    """:return: AUROC, the probability that a positive sample has the larger score"""
    classes = torch.cat([torch.zeros(len(negative)), -torch.ones(len(positive))])
    return float(auroc(torch.cat([negative, positive]), classes))


tasks = [("ID", "OOD"), ("ID", "ADV"), ("OOD", "ADV")]
table = pd.DataFrame(
    {
        f"{negative}-vs-{positive}": {
            name: separation(of[negative], of[positive]) for name, of in scores.items()
        }
        for negative, positive in tasks
    }
)
print(f"\nAUROC ({', '.join(f'{len(images)} {group}' for group, images in groups.items())})")
print(table.round(3).to_string())

# %%
# The distributions behind the numbers.
COLORS = {"ID": "tab:gray", "OOD": "tab:blue", "ADV": "tab:red"}
figure, axes = plt.subplots(len(scores), 1, figsize=(7, 1.7 * len(scores)), layout="constrained")
for axis, (name, of) in zip(axes, scores.items(), strict=True):
    values = torch.cat(list(of.values())).double()
    low, high = torch.quantile(values, torch.tensor([0.01, 0.99], dtype=torch.float64)).tolist()
    bins = np.linspace(low, high, 50)
    for group, sample in of.items():
        axis.hist(
            sample.clamp(low, high).numpy(), bins, density=True, alpha=0.5, color=COLORS[group]
        )
    axis.set_title(f"{name}: OOD-vs-ADV AUROC {table.loc[name, 'OOD-vs-ADV']:.2f}", fontsize=10)
    axis.set_yticks([])
axes[0].legend(list(COLORS), frameon=False)
axes[-1].set_xlabel("score (the outermost 1 % on each side drawn at the edge)")
figure.savefig(options.out / "scores.png", dpi=150)
print(f"\nscore distributions: {options.out / 'scores.png'}")
