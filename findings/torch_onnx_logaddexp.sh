#!/usr/bin/env bash
# torch.onnx.export writes stable functions of torch as unstable formulas.
#
# Expected: logaddexp and logsigmoid stay what they are for: right where exp overflows or
#           underflows.
# Seen:     logaddexp becomes Log(Exp(a) + Exp(b)): inf above 88, -inf below -104 (with float64
#           inputs at 709 and -745). logsigmoid becomes Log(Sigmoid(x)): -inf at -200. softplus,
#           logsumexp and log_softmax have ONNX operators of their own and are right.
# Versions: torch 2.14.1, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0 (Python 3.11).
# Hurts:    who exports a log-likelihood, an energy of two parts or a sigmoid head: right in a
#           test on typical pictures, inf on those the score is there for.
# Instead:  torch.logsumexp of the stacked values, -softplus(-x); and compare on extreme inputs.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'torch==2.14.1' 'onnx==1.23.2' 'onnxscript==0.7.2' \
  'onnxruntime==1.32.0' 'numpy==2.4.6'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import onnxruntime
import torch
from torch.nn import functional

functions = {
    "logaddexp": torch.logaddexp,
    "logsumexp": lambda a, b: torch.logsumexp(torch.stack([a, b]), 0),
    "logsigmoid": lambda a, b: functional.logsigmoid(a),
    "-softplus": lambda a, b: -functional.softplus(-a),
}


class Model(torch.nn.Module):
    def forward(self, a, b):
        return tuple(function(a, b) for function in functions.values())


a = torch.tensor([-200.0, -1.0, 5.0, 200.0])
b = a - 1
program = torch.onnx.export(Model().eval(), (a, b), dynamo=True, verbose=False)
session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
names = [tensor.name for tensor in session.get_inputs()]
given = session.run(None, dict(zip(names, (a.numpy(), b.numpy()))))
wanted = [tensor.numpy() for tensor in Model()(a, b)]
print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__, "on", a.tolist())
wrong = set()
for name, exported, torchs in zip(functions, given, wanted):
    print(f"{name}: torch {torchs}, exported {exported}")
    if not np.allclose(exported, torchs, atol=1e-5):
        wrong.add(name)
values = dict(zip(functions, given))
assert wrong == {"logaddexp", "logsigmoid"}
assert np.isneginf(values["logaddexp"][0]) and np.isposinf(values["logaddexp"][3])
assert np.isneginf(values["logsigmoid"][0])
PYTHON
