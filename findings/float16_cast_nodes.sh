#!/usr/bin/env bash
# onnxconverter-common writes a float16 file that cannot be loaded if the model holds a Cast.
#
# Expected: a valid model is converted to a valid model.
# Seen:     a Cast to float keeps its attribute, while its output is declared float16. The
#           conversion returns, and the file is refused when it is loaded, with or without
#           keep_io_types.
# Versions: onnxconverter-common 1.16.0, onnx 1.23.2, onnxruntime 1.32.0 (Python 3.11).
# Hurts:    who takes uint8 pictures into the model, or float64 statistics in it, and converts
#           after a build on one machine what another loads.
# Instead:  turn the attribute `to` of those Cast nodes into FLOAT16 after the conversion, and
#           load the file once before it is shipped.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'onnxconverter-common==1.16.0' 'onnx==1.23.2' \
  'onnxruntime==1.32.0' 'numpy==2.4.6'
"$dir/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnxconverter_common.float16 import convert_float_to_float16

nodes = [
    helper.make_node("Cast", ["x"], ["pixels"], name="cast", to=TensorProto.FLOAT),
    helper.make_node("Sqrt", ["pixels"], ["y"], name="root"),
]
graph = helper.make_graph(
    nodes,
    "model",
    [helper.make_tensor_value_info("x", TensorProto.UINT8, ["n"])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
onnx.checker.check_model(model)
x = np.array([4, 9], np.uint8)
session = onnxruntime.InferenceSession(model.SerializeToString())
assert session.run(None, {"x": x})[0].tolist() == [2, 3]

print("onnxconverter-common", version("onnxconverter-common"))
for keep in (False, True):
    half = convert_float_to_float16(model, keep_io_types=keep)
    try:
        onnxruntime.InferenceSession(half.SerializeToString())
    except Exception as error:
        print(f"keep_io_types={keep}: {str(error)[:110]}")
    else:
        raise SystemExit(f"keep_io_types={keep}: the file loads")
    for node in half.graph.node:
        if node.name == "cast":
            node.attribute[0].i = TensorProto.FLOAT16
    repaired = onnxruntime.InferenceSession(half.SerializeToString()).run(None, {"x": x})[0]
    assert repaired.tolist() == [2, 3]
PYTHON
