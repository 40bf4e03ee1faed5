#!/usr/bin/env bash
# onnxruntime's static quantization makes a score minus infinity and leaves the classes right.
#
# Expected: quantize_static touches convolutions and matrix products; a score beside the logits
#           gets a small error like them.
# Seen:     with the defaults every tensor between is quantized too, in 256 steps of its largest
#           value. A sum of squares spans orders of magnitude, the small ones become 0, and the
#           logarithm behind them -inf: here for a third of valid pictures, the quiet ones. The
#           class stays the same for all of them, so a check of the accuracy sees nothing.
# Versions: onnxruntime 1.32.0, onnx 1.23.2 (Python 3.11).
# Hurts:    who exports a model with an OOD or attack score as second output and quantizes the
#           file.
# Instead:  nodes_to_exclude= with every node that leads to the score and not to the logits.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'onnxruntime==1.32.0' 'onnx==1.23.2' 'numpy==2.4.6'
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
import logging

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

logging.disable(logging.WARNING)
random = np.random.default_rng(0)
second_difference = np.outer([1, -2, 1], [1, -2, 1]) / 6 / 3**0.5
weights = {
    "filters": random.normal(0, 0.3, (8, 3, 3, 3)),
    "classes": random.normal(0, 0.3, (8, 5)),
    "noise": np.broadcast_to(second_difference, (1, 3, 3, 3)),
}
stored = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
stored.append(numpy_helper.from_array(np.array([1, 2, 3]), "axes"))
logits = [
    helper.make_node("Conv", ["x", "filters"], ["a"]),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("GlobalAveragePool", ["b"], ["c"]),
    helper.make_node("Flatten", ["c"], ["d"]),
    helper.make_node("MatMul", ["d", "classes"], ["logits"]),
]
score = [  # logarithm of the energy of second differences
    helper.make_node("Conv", ["x", "noise"], ["e"], name="score0"),
    helper.make_node("Mul", ["e", "e"], ["f"], name="score1"),
    helper.make_node("ReduceMean", ["f", "axes"], ["g"], name="score2", keepdims=0),
    helper.make_node("Log", ["g"], ["score"], name="score3"),
]


def tensor(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])


outputs = [tensor("logits", 5), tensor("score")]
graph = helper.make_graph(logits + score, "model", [tensor("x", 3, 16, 16)], outputs, stored)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
onnx.checker.check_model(model)
onnx.save(model, "model.onnx")


def pictures(count):
    y, x = np.mgrid[:16, :16]
    wave = random.uniform(0.1, 0.5, (count, 3, 1, 1))
    phase = random.uniform(0, 6, (count, 3, 1, 1))
    strength = 10 ** random.uniform(-3, -1, (count, 1, 1, 1))
    noise = strength * random.normal(size=(count, 3, 16, 16))
    smooth = 0.5 + 0.4 * np.sin(wave * x + phase) * np.cos(wave * y)
    return (smooth + noise).clip(0, 1).astype(np.float32)


class Calibration(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": pictures(32)} for _ in range(8)])

    def get_next(self):
        return next(self.batches, None)


def answers(file):
    return onnxruntime.InferenceSession(file).run(None, {"x": test})


print("onnxruntime", onnxruntime.__version__)
test = pictures(500)
wanted = answers("model.onnx")
lost = {}
for name, excluded in ("default", []), ("score excluded", [node.name for node in score]):
    quantize_static("model.onnx", "int8.onnx", Calibration(), nodes_to_exclude=excluded)
    given = answers("int8.onnx")
    same = float((given[0].argmax(1) == wanted[0].argmax(1)).mean())
    lost[name] = float(np.isneginf(given[1]).mean())
    print(f"{name}: same class {same:.3f}, -inf {lost[name]:.3f}")
    assert same > 0.98
assert np.isfinite(wanted[1]).all()
assert lost["default"] > 0.1 and lost["score excluded"] == 0
PYTHON
