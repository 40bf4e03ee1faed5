#!/usr/bin/env bash
# scikit-image's denoisers turn a grey picture in channels-first layout on its side.
#
# Expected: a picture of shape (1, H, W) with channel_axis=0 comes back in that shape, denoised
#           as (H, W) is.
# Seen:     denoise_nl_means, denoise_bilateral and denoise_tv_bregman return shape (W, H): the
#           channel axis is gone and the picture is transposed. Of a square picture the numbers
#           of values agree, so a later reshape to (1, H, W) hides it. With (H, W, 1) and
#           channel_axis=-1 the same three lose the axis but keep the picture upright.
#           denoise_tv_chambolle and denoise_wavelet do what is expected.
# Versions: scikit-image 0.26.0 (Python 3.11).
# Hurts:    who purifies grey tensors of torch: the model classifies pictures that lie on their
#           side, and the drop in accuracy is put down to the denoiser.
# Instead:  give grey pictures as (H, W) with channel_axis=None and put the axis back yourself.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'scikit-image==0.26.0' 'PyWavelets==1.9.0' 'numpy==2.4.6'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import skimage
from skimage import restoration

y, x = np.mgrid[:48, :32]
noise = np.random.default_rng(0).normal(0, 0.05, x.shape)
grey = (0.5 + 0.3 * np.sin(x / 7) * np.cos(y / 9) + noise).clip(0, 1)
print("scikit-image", skimage.__version__, "on (1, 48, 32)")
transposed = set()
for name in ("nl_means", "bilateral", "tv_bregman", "tv_chambolle", "wavelet"):
    denoise = getattr(restoration, f"denoise_{name}")
    wanted = denoise(grey, channel_axis=None)
    first = denoise(grey[None], channel_axis=0)
    print(f"denoise_{name}: {first.shape}")
    if first.shape == (32, 48) and np.array_equal(first, wanted.T):
        transposed.add(name)
    else:
        assert first.shape == (1, 48, 32) and np.array_equal(first[0], wanted)
    last = denoise(grey[..., None], channel_axis=-1)
    assert np.array_equal(last.reshape(wanted.shape), wanted)
assert transposed == {"nl_means", "bilateral", "tv_bregman"}
PYTHON
