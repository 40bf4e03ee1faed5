#!/usr/bin/env bash
# torchattacks thaws frozen batch normalisation and switches Monte Carlo dropout off.
#
# Expected: after an attack each module is in the mode it was in, as the attack restores the
#           model.
# Seen:     only the mode of the whole model is remembered. A model in training mode with frozen
#           BatchNorm layers comes back with them in training mode; a model in evaluation mode
#           with Dropout switched on comes back with it off.
# Versions: torchattacks 3.5.1, torch 2.14.1, torchvision 0.29.1 (Python 3.11).
# Hurts:    who attacks during fine-tuning (running statistics move from then on) or measures MC
#           dropout behind an attack (all samples are the same). A deep copy is safe.
# Instead:  attack copy.deepcopy(model), or note module.training of all modules and put it back.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
# without its dependencies, which ask for a requests of 2021
"$dir/venv/bin/pip" install -q 'torch==2.14.1' 'torchvision==0.29.1' 'numpy==2.4.6' \
  'scipy==1.17.1' 'tqdm==4.70.1' 'requests==2.34.2'
"$dir/venv/bin/pip" install -q --no-deps 'torchattacks==3.5.1'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import torch
import torchattacks
from torch import nn

model = nn.Sequential(
    nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 4)
)
x, y = torch.rand(8, 3, 8, 8), torch.arange(8) % 4
print("torchattacks", version("torchattacks"))

model.train()
model[1].eval()
torchattacks.FGSM(model)(x, y)
thawed = model[1].training
print("frozen BatchNorm after an attack, training:", thawed)
statistics = model[1].running_mean.clone()
model(x)
moved = not torch.equal(statistics, model[1].running_mean)
print("its running statistics move:", moved)

model.eval()
model[2].train()
torchattacks.FGSM(model)(x, y)
print("Dropout that was on, training:", model[2].training)
assert thawed and moved and not model[2].training
PYTHON
