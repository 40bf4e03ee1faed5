"""
Triage: answer, abstain, or raise an alert.

A stream of digits, photographs and attacked digits meets a classifier of digits on photographs.
Rule and thresholds come from clean images alone, with a false alarm for at most 5 % of them. Needs
no download, and some minutes on a CPU:

    python examples/detectors/triage.py
"""

# %%
import argparse
from pathlib import Path

import foolbox
import matplotlib
import torch
from digits_on_photos import Net, make_images, train
from pytorch_ood.detector import fDBD
from torch.utils.data import DataLoader

from pytorch_ood_viyog import Triage, Verdict
from pytorch_ood_viyog.benchmark.attacks import FoolboxAttack, craft
from pytorch_ood_viyog.images import BenignChange

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

noisy = BenignChange("white noise", 8)(victims)

# %%
# The triage. It has evidence of its own; any detector of pytorch-ood that one forward pass can
# feed may join. The calibration images must not be those that the model was trained on: some of
# them are changed, attacked and cut up to learn the rule from, the others set the thresholds.
triage = Triage(model, evidence={"fDBD": fDBD(None, model.head)}, id_fpr=0.05)
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
kinds = {
    "digit": victims,
    "photograph": photographs,
    "attacked digit": attacked,
    "noisy digit": noisy,
}
stream = torch.cat([images[:3] for images in kinds.values()])
sources = [kind for kind in kinds for _ in range(3)]
for source, verdict in zip(sources, triage.predict(stream).tolist(), strict=True):
    print(f"{source:<15} {Verdict(verdict).name:<5} {ACTIONS[Verdict(verdict)]}")

# %%
# Why: probabilities, p-values, and the evidence that spoke loudest, in log-odds. Where the first
# pass leaves the verdict open, the model is asked again: about the image without fine detail,
# moved and mirrored.
print(triage.explain(stream[::3]))

# %%
# How often it is right.
report = triage.report(victims, photographs, attacked, noisy=noisy)
print(report)
report.plot().figure.savefig(options.out / "confusion.png", dpi=150)

# %%
# Where the kinds lie: how much speaks for OOD, and how much for ADV, against ID.
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for kind, images in kinds.items():
    id_odds, ood_odds, adv_odds, _ = triage.log_odds(images).unbind(dim=1)
    axes.scatter(ood_odds - id_odds, adv_odds - id_odds, s=6, alpha=0.5, label=kind)
# An alarm: about where both outweigh ID (NOISY, which counts a tenth, is left out).
places = [torch.linspace(*limits, 200) for limits in (axes.get_xlim(), axes.get_ylim())]
x, y = torch.meshgrid(*places, indexing="xy")
limit = float(triage.fitted.thresholds.alarm)
axes.contour(x, y, torch.logaddexp(x, y), levels=[limit], colors="tab:gray", linestyles="--")
axes.set(xlabel="log-odds of OOD against ID", ylabel="log-odds of ADV against ID")
axes.legend(frameon=False)
figure.savefig(options.out / "scores.png", dpi=150)
print(f"figures: {options.out / 'confusion.png'}, {options.out / 'scores.png'}")

# %%
# It can be stored without pickled code and loaded next to the same model.
torch.save(triage.state_dict(), options.out / "triage.pt")
triage.load_state_dict(torch.load(options.out / "triage.pt", weights_only=True))
