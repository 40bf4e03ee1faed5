#!/usr/bin/env bash
# pytorch-ood: scores of logits detectors hold the activations of their forward pass.
#
# Expected: predict gives plain numbers; the documentation says that detectors on logits work without
#           gradients.
# Seen:     predict of MaxSoftmax, EnergyBased, Entropy and MaxLogit calls the model with
#           gradients on and returns scores with a graph. A list of scores of all batches keeps all
#           of their activations in memory, and scores.numpy() raises. Scores from predict_logits and
#           those of KNN are plain.
# Versions: pytorch-ood 0.4.0, torch 2.14.1, torchvision 0.29.1 (Python 3.11).
# Hurts:    who scores a stream or a large folder batch by batch: memory grows until it is full.
# Instead:  torch.no_grad() around predict.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'torch==2.14.1' 'torchvision==0.29.1' \
  'pytorch-ood==0.4.0' 'numpy==2.4.6'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import torch
from pytorch_ood.detector import KNN, EnergyBased, Entropy, MaxLogit, MaxSoftmax

torch.manual_seed(0)
model, x = torch.nn.Linear(6, 3).eval(), torch.randn(40, 6)
print("pytorch-ood", version("pytorch-ood"))
for kind in MaxSoftmax, EnergyBased, Entropy, MaxLogit:
    scores = kind(model).predict(x)
    print(f"{kind.__name__}: requires_grad={scores.requires_grad}")
    assert scores.requires_grad
    with torch.no_grad():
        assert not kind(model).predict(x).requires_grad
neighbours = KNN(model, k=3).fit([(x, torch.zeros(40))])
assert not neighbours.predict(x).requires_grad
PYTHON
