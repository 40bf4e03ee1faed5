#!/usr/bin/env bash
# A hook set after the first call of a compiled model fires for some batches and not for others.
#
# Expected: a forward hook on a submodule fires at each call, or torch.compile complains.
# Seen:     the compiled code of the first call goes on without it. A batch of another shape is
#           compiled anew and has the hook; the old shape still has not. If the submodule had any
#           hook before the first call, later ones fire. torch.compiler.reset() makes all of them
#           fire. On exported and traced modules hooks are accepted and never fire.
# Versions: torch 2.14.1, backend "eager" (Python 3.11).
# Hurts:    who attaches a detector or recorder to a model that has served already: the maps are
#           missing, or are there for the last, smaller batch only.
# Instead:  hooks first, or run the model that was compiled (model._orig_mod), or
#           torch.compiler.reset() after the hooks are set.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'torch==2.14.1' 'numpy==2.4.6'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn


def calls(hook_before):
    """How often the late hook fired, for the shape of the first call, another, and after reset."""
    torch.compiler.reset()
    model, fired = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), []
    if hook_before:
        model[0].register_forward_hook(lambda *_: None)
    compiled = torch.compile(model, backend="eager")
    first, other = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 9, 9)
    counts = []
    with torch.no_grad():
        compiled(first)
        model[0].register_forward_hook(lambda *_: fired.append(1))
        for batch in first, other, first:
            before = len(fired)
            compiled(batch)
            counts.append(len(fired) - before)
        torch.compiler.reset()
        compiled(first)
    return counts, len(fired) - sum(counts)


print("torch", torch.__version__)
late, with_early = calls(False), calls(True)
print("first shape, other shape, first shape; after reset:", late)
print("the same with an early hook:", with_early)
assert late[0][:2] == [0, 1] and late[1] == 1
assert with_early == ([1, 1, 1], 1)

model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), torch.rand(2, 3, 8, 8)
for name, made in (
    ("exported", torch.export.export(model, (x,)).module()),
    ("traced", torch.jit.trace(model, x)),
):
    fired = []
    made.get_submodule("0").register_forward_hook(lambda *_, seen=fired: seen.append(1))
    made(x)
    print(f"{name}: the hook fired {len(fired)} times")
    assert not fired
PYTHON
