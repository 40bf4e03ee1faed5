#!/usr/bin/env bash
# secml-torch's own L1 PGD fools almost nothing where that of its foolbox backend fools all.
#
# Expected: backend="native" and backend="foolbox" are two implementations of one attack, alike
#           in strength.
# Seen:     in L-inf they are. In L1, with the same budget, step and number of steps, the native
#           one changes about one pixel in a thousand, uses a few per cent of its budget and
#           fools nearly nothing; the other uses all of it. A larger budget does not help. Native
#           is the default.
# Versions: secml-torch 1.5, foolbox 3.3.4, torch 2.14.1 (Python 3.11).
# Hurts:    who reports robustness to L1 attacks, or takes its output as adversarial examples.
# Instead:  backend="foolbox", and look at the norm of what comes back: far below the budget is a
#           sign.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'torch==2.14.1' 'secml-torch==1.5' 'foolbox==3.3.4' 'numpy==2.4.6'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import torch
from secmlt.adv.evasion.perturbation_models import LpPerturbationModels
from secmlt.adv.evasion.pgd import PGD
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


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
images, labels = images[known][:40], labels[known][:40]
loader = DataLoader(TensorDataset(images, labels), batch_size=40)


def attacked(norm, budget, backend):
    """Share of pictures fooled, and mean L1 norm of the change in budgets."""
    attack = PGD(
        perturbation_model=norm, epsilon=budget, num_steps=30, step_size=budget / 5,
        random_start=False, y_target=None, lb=0.0, ub=1.0, backend=backend,
    )
    adversarial = torch.cat([batch[0] for batch in attack(BasePyTorchClassifier(model), loader)])
    fooled = (model(adversarial).argmax(1) != labels).float().mean().item()
    return fooled, (adversarial - images).abs().sum((1, 2, 3)).mean().item() / budget


print("secml-torch", version("secml-torch"), "foolbox", version("foolbox"))
found = {}
norms = LpPerturbationModels
for norm, budget in (norms.LINF, 8 / 255), (norms.L1, 20.0), (norms.L1, 40.0):
    for backend in "native", "foolbox":
        found[norm, budget, backend] = fooled, used = attacked(norm, budget, backend)
        detail = f", L1 {used:.2f} of the budget" if norm == norms.L1 else ""
        print(f"{norm} {budget:.3g} {backend}: fooled {fooled:.2f}{detail}")
assert all(found[norms.LINF, 8 / 255, backend][0] > 0.8 for backend in ("native", "foolbox"))
for budget in 20.0, 40.0:
    assert found[norms.L1, budget, "foolbox"][0] > 0.8
    fooled, used = found[norms.L1, budget, "native"]
    assert fooled < 0.3 and used < 0.2
PYTHON
