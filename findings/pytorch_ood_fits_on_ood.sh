#!/usr/bin/env bash
# pytorch-ood: ViM, fDBD and NCI learn from OOD samples in fit_features.
#
# Expected: samples with a negative label are left out of every fit: fit does it, and the
#           docstring of ViM.fit_features says that OOD samples are ignored.
# Seen:     fit_features of the three does not look at the labels. The scores differ from those
#           of the same detector fitted on the ID samples alone. No error, no warning.
# Versions: pytorch-ood 0.4.0, torch 2.14.1, torchvision 0.29.1 (Python 3.11).
# Hurts:    who extracts features once, with labels, and fits several detectors on them: these
#           three have seen the OOD set they are then measured on.
# Instead:  features[labels >= 0] before fit_features.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'torch==2.14.1' 'torchvision==0.29.1' \
  'pytorch-ood==0.4.0' 'numpy==2.4.6'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import torch
from pytorch_ood.detector import GMM, KNN, NCI, ViM, fDBD

torch.manual_seed(0)
known, unknown = torch.randn(100, 6), 3 * torch.randn(100, 6) + 5
features = torch.cat([known, unknown])
labels = torch.cat([torch.arange(100) % 2, torch.full((100,), -1)])
head = torch.nn.Linear(6, 3)
detectors = {
    "ViM": lambda: ViM(None, d=2, w=head.weight.detach(), b=head.bias.detach()),
    "fDBD": lambda: fDBD(None, head),
    "NCI": lambda: NCI(None, head),
    "KNN": lambda: KNN(None, k=3),
    "GMM": lambda: GMM(None),
}
print("pytorch-ood", version("pytorch-ood"))
learnt = set()
for name, make in detectors.items():
    alone = make().fit_features(known, labels[:100]).predict_features(known)
    mixed = make().fit_features(features, labels).predict_features(known)
    same = torch.allclose(alone, mixed)
    print(f"{name}: scores {'the same' if same else 'DIFFER'} when OOD samples are among the data")
    if not same:
        learnt.add(name)
assert learnt == {"ViM", "fDBD", "NCI"}
PYTHON
