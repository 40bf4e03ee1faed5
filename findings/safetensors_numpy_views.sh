#!/usr/bin/env bash
# safetensors saves other numbers than the numpy view that it was given.
#
# Expected: save_file of a transposed or strided array stores its values, or raises, as
#           safetensors.torch does for tensors that are not contiguous.
# Seen:     safetensors.numpy writes the shape of the view and bytes in another order. Loading
#           gives an array of the right shape and type with its values at wrong places (a
#           transpose, a Fortran array) or with values of the columns left out ([:, ::2]). No
#           error, no warning.
# Versions: safetensors 0.8.0, numpy 2.4.6 (Python 3.11).
# Hurts:    who stores fitted statistics, weights or images that went through .T, [::2] or a
#           routine of linear algebra that returns Fortran order.
# Instead:  numpy.ascontiguousarray around every array that is saved.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'safetensors==0.8.0' 'numpy==2.4.6'
"$dir/venv/bin/python" - <<'PYTHON'
import numpy as np
import safetensors
from safetensors.numpy import load, save

array = np.arange(12, dtype=np.float32).reshape(3, 4)
views = {
    "contiguous": array,
    "transposed": array.T,
    "Fortran order": np.asfortranarray(array),
    "every second": array[:, ::2],
}
print("safetensors", safetensors.__version__)
for name, view in views.items():
    loaded = load(save({"view": view}))["view"]
    right = np.array_equal(loaded, view)
    print(f"{name}: {'right' if right else 'WRONG'}")
    assert loaded.shape == view.shape and loaded.dtype == view.dtype
    assert right == (name == "contiguous")
    assert np.array_equal(load(save({"view": np.ascontiguousarray(view)}))["view"], view)
PYTHON
