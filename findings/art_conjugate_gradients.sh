#!/usr/bin/env bash
# ART's conjugate-gradient attacks fool far fewer pictures than one step of FGSM.
#
# Expected: AutoConjugateGradient is about as strong as AutoPGD, which it was published to beat.
# Seen:     with the same budget, loss and number of steps AutoPGD and even one step of FGSM fool
#           nearly all pictures, AutoConjugateGradient and its rescaling sister fewer than half.
#           It steps along the conjugate direction itself, not along its sign, so that it stays
#           near its random start: the mean change of a pixel is half of the budget.
# Versions: adversarial-robustness-toolbox 1.20.1, torch 2.14.1 (Python 3.11).
# Hurts:    who takes it as the strongest attack of a library: a model or a detector looks
#           robust.
# Instead:  AutoProjectedGradientDescent; and hold every strong attack against FGSM of the same
#           budget.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'torch==2.14.1' 'adversarial-robustness-toolbox==1.20.1' 'packaging==26.4' \
  'numpy==2.4.6'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
import art
import numpy as np
import torch
from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier
from torch import nn

torch.manual_seed(0)
np.random.seed(0)


def stripes(count):
    """Noisy stripes of four widths, one a class."""
    labels = torch.randint(0, 4, (count,))
    frequency = torch.tensor([0.4, 0.8, 1.2, 1.6])[labels].view(-1, 1, 1, 1)
    waves = torch.sin(frequency * torch.arange(16.0) + 6 * torch.rand(count, 3, 1, 1))
    noise = 0.05 * torch.randn(count, 3, 16, 16)
    return (0.5 + 0.1 * waves + noise).clamp(0, 1), labels


model = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4),
)
images, labels = stripes(512)
optimizer = torch.optim.Adam(model.parameters(), 5e-3)
for _ in range(150):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
model.eval()
images, labels = stripes(96)
known = model(images).argmax(1) == labels
images, labels = images[known][:40].numpy(), labels[known][:40].numpy()

classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), (3, 16, 16), 4, clip_values=(0, 1))
budget = 8 / 255
steps = dict(eps=budget, eps_step=2 * budget, max_iter=20, nb_random_init=1)
steps |= dict(loss_type="cross_entropy", verbose=False)
attacks = {
    "FGSM": evasion.FastGradientMethod(classifier, eps=budget),
    "AutoPGD": evasion.AutoProjectedGradientDescent(classifier, **steps),
    "ACG": evasion.AutoConjugateGradient(classifier, **steps),
    "ReACG": evasion.RescalingAutoConjugateGradient(classifier, **steps),
}
print("adversarial-robustness-toolbox", art.__version__)
fooled = {}
for name, attack in attacks.items():
    adversarial = attack.generate(images, labels)
    fooled[name] = float((classifier.predict(adversarial).argmax(1) != labels).mean())
    change = np.abs(adversarial - images)
    share = change.mean() / budget
    print(f"{name}: fooled {fooled[name]:.2f}, mean change {share:.2f} of the budget")
    assert change.max() < budget * 1.001
assert min(fooled["FGSM"], fooled["AutoPGD"]) > 0.8
assert max(fooled["ACG"], fooled["ReACG"]) < 0.6
PYTHON
