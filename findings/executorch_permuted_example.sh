#!/usr/bin/env bash
# A picture that was exported from a permuted example gets other numbers in ExecuTorch's XNNPACK.
#
# Expected: an example tells the shape and the type of the input. Pictures are often
#           array.permute(0, 3, 1, 2), which PyTorch takes like any other tensor of that shape.
# Seen:     the example's strides become part of the program: a tensor with these strides is read
#           rightly, a contiguous one of the same shape is read in the other order, and the answers
#           are wrong by as much as they are large. No error, no warning.
# Versions: executorch 1.5.1, torch 2.14.1 (Python 3.11).
# Hurts:    who exports from the first batch of a loader and hands the runtime contiguous pictures:
#           a detector's scores are noise, and classes are those of shuffled pictures.
# Instead:  example.contiguous() before torch.export.export.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'executorch==1.5.1' 'torch==2.14.1' 'numpy==2.4.6'
cd "$dir"
"$dir/venv/bin/python" - <<'PYTHON'
import logging
from importlib.metadata import version

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime

logging.disable(logging.WARNING)
print("executorch", version("executorch"), "torch", torch.__version__.partition("+")[0])
torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3), torch.nn.Flatten()
).eval()
arrays = torch.rand(1, 16, 16, 3)
permuted = arrays.permute(0, 3, 1, 2)
contiguous = permuted.contiguous()


def largest_error(example, given):
    exported = torch.export.export(model, (example,))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    buffer = lowered.to_executorch().buffer
    program = Runtime.get().load_program(buffer)  # buffer and program stay as long as the method
    method = program.load_method("forward")
    with torch.no_grad():
        return float((method.execute((given,))[0] - model(given)).abs().max())


with torch.no_grad():
    size = float(model(contiguous).abs().max())
right = largest_error(contiguous, contiguous)
wrong = largest_error(permuted, contiguous)
print(f"largest answer {size:.3f}")
print(f"largest error with a contiguous example {right:.1e}, with a permuted one {wrong:.3f}")
assert right < 1e-4
assert wrong > 0.1 * size
PYTHON
