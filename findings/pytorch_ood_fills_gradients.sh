#!/usr/bin/env bash
# pytorch-ood: MahalanobisODIN adds to the gradients of the user's model at each call.
#
# Expected: scoring leaves the model as it was, as ODIN does.
# Seen:     its predict calls backward() for the gradient of the input, so that the parameters'
#           gradients fill up, batch after batch.
# Versions: pytorch-ood 0.4.0, torch 2.14.1, torchvision 0.29.1 (Python 3.11).
# Hurts:    who scores during training: where the gradients are not cleared between the two, the next
#           step of the optimizer takes the detector's gradients with it. And it doubles the
#           memory of the weights.
# Instead:  model.zero_grad(set_to_none=True) after scoring, or a copy of the model.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'torch==2.14.1' 'torchvision==0.29.1' \
  'pytorch-ood==0.4.0' 'numpy==2.4.6'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import torch
from pytorch_ood.detector import ODIN, MahalanobisODIN

torch.manual_seed(0)
x, y = torch.randn(40, 6), torch.arange(40) % 2
print("pytorch-ood", version("pytorch-ood"))


def gradients(make):
    """Norm of the gradient of the weights before, after one and after two calls of predict."""
    model = torch.nn.Linear(6, 4)
    detector, norms = make(model), []
    for _ in range(3):
        norms.append(0.0 if model.weight.grad is None else model.weight.grad.norm().item())
        detector.predict(x)
    return norms


filled = gradients(lambda model: MahalanobisODIN(model).fit([(x, y)]))
print("MahalanobisODIN:", filled, "ODIN:", gradients(ODIN))
assert filled[0] == 0 < filled[1] and abs(filled[2] / filled[1] - 2) < 1e-3
assert gradients(ODIN) == [0, 0, 0]
PYTHON
