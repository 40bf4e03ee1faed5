"""
Triage: answer, abstain, or raise an alert.

A stream of digits, photographs and attacked digits meets a classifier of digits on photographs.
Thresholds come from clean images alone, with a false alarm for at most 5 % of them. Needs no
download, and a minute or two on a CPU:

    python examples/detectors/triage.py
"""

# %%
import argparse
from pathlib import Path

import foolbox
import matplotlib
import torch
from digits_on_photos import Net, make_images, train
from pytorch_ood.detector import EnergyBased, fDBD
from pytorch_ood_viyog.triage.verdict import Verdict
from torch.utils.data import DataLoader

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.benchmark.attacks import FoolboxAttack, craft
from pytorch_ood_viyog.detectors.residue_outlier import ResidueOutlier
from pytorch_ood_viyog.triage.triage import Triage

matplotlib.use("Agg")
from matplotlib import pyplot as plt

parser = argparse.ArgumentParser(description="Verdicts for a stream of mixed images.")
parser.add_argument("--quick", action="store_true", help="fewer epochs and images, for CI")
parser.add_argument("--out", type=Path, default=Path("output/triage"), help="output folder")
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)

data = make_images(repeats=1 if options.quick else 3)
model = train(Net(width=16 if options.quick else 32), data.train, epochs=8)

# %%
# Adversarial images: PGD at 8/255, rounded to 8 bit, only those that fool the model.
victims, labels = data.test.tensors
if options.quick:
    victims, labels = victims[:100], labels[:100]
pgd = FoolboxAttack(foolbox.attacks.LinfPGD(steps=10, rel_stepsize=0.25), 8 / 255)
attacked = craft(model, pgd, victims, labels, progress=False).x
photographs = data.ood

# %%
# The triage. Two detectors of pytorch-ood and the first layer's own ID hypothesis are the gate,
# the first-layer detector is the router; inside, they share one forward pass. The calibration
# images must not be those that the model was trained on. Many ID images, as far as 128 MiB of
# maps allow, make the router's alarm sharper.
router = ViyogResidue(model, sample_size=2048)
gates = {
    "energy": EnergyBased(None),
    "fDBD": fDBD(None, model.head),
    "first layer": ResidueOutlier(router),
}
triage = Triage(gates, router, id_fpr=0.05)
triage.fit(DataLoader(data.train, batch_size=100), DataLoader(data.calibration, batch_size=100))
print(triage)

# %%
# A stream, and what a system would do with each image.
ACTIONS = {
    Verdict.ID: "answer",
    Verdict.OOD: "abstain, keep the image for labelling",
    Verdict.ADV: "reject, raise an alert",
    Verdict.NOISY: "answer with care, mend the camera",
}
stream = torch.cat([victims[:3], photographs[:3], attacked[:3]])
sources = ["digit"] * 3 + ["photograph"] * 3 + ["attacked digit"] * 3
for source, verdict in zip(sources, triage.predict(stream).tolist(), strict=True):
    print(f"{source:<15} {Verdict(verdict).name:<4} {ACTIONS[Verdict(verdict)]}")

# %%
# Why: scores, thresholds and p-values.
print(triage.explain(stream[2:7:2]))

# %%
# How often it is right.
report = triage.report(victims, photographs, attacked)
print(report)
report.plot().figure.savefig(options.out / "confusion.png", dpi=150)

# %%
# Where the three lie: the gate against the router's alarm, with the two thresholds.
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for name, images in {"digits": victims, "photographs": photographs, "attacked": attacked}.items():
    scores = triage.explain(images).scores
    axes.scatter(scores["gates"], scores[triage.alarm], s=6, alpha=0.5, label=name)
thresholds = triage.calibration.thresholds
axes.axvline(thresholds["gates"], color="tab:gray", linestyle="--")
axes.axhline(thresholds[triage.alarm], color="tab:gray", linestyle="--")
axes.set(xlabel="fused gates: unlike ID", ylabel=f"{triage.alarm}: residue on ID")
axes.legend(frameon=False)
figure.savefig(options.out / "scores.png", dpi=150)
print(f"figures: {options.out / 'confusion.png'}, {options.out / 'scores.png'}")

# %%
# It can be stored without pickled code and loaded next to the same model.
torch.save(triage.state_dict(), options.out / "triage.pt")
triage.load_state_dict(torch.load(options.out / "triage.pt", weights_only=True))
