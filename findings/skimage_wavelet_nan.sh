#!/usr/bin/env bash
# scikit-image's wavelet denoiser turns clean pictures of stripes into NaN.
#
# Expected: a picture without noise comes back as it is, as from the other denoisers.
# Seen:     denoise_wavelet takes the noise from the diagonal details. Where these are zero (a
#           flat picture, stripes or a gradient along one axis, one such channel of a colour
#           picture) it divides zero by zero, and every pixel of that channel becomes NaN. No
#           error, and numpy's RuntimeWarning comes once per process.
# Versions: scikit-image 0.26.0 with PyWavelets 1.9.0 (Python 3.11).
# Hurts:    who denoises every picture before the model: black frames, charts, gradients,
#           drawings in pure colours. One NaN makes a mean or a threshold NaN, and nothing is
#           above NaN.
# Instead:  give sigma, or keep pictures as they are whose estimate_sigma is below 1e-12.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'scikit-image==0.26.0' 'PyWavelets==1.9.0' 'numpy==2.4.6'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import skimage
from skimage import restoration

y, x = np.mgrid[:32, :32]
clean = {
    "flat": np.full((32, 32), 0.5),
    "stripes": (127 + 50 * np.cos(x / 3)).round() / 255,
    "checks": 0.5 + 0.3 * np.sin(x * y / 50),
}
print("scikit-image", skimage.__version__)
share = {name: np.isnan(restoration.denoise_wavelet(p)).mean() for name, p in clean.items()}
print("share of NaN:", share)
colour = np.isnan(restoration.denoise_wavelet(np.dstack(list(clean.values())), channel_axis=-1))
print("as channels of one picture:", colour.mean((0, 1)))
assert share == {"flat": 1, "stripes": 1, "checks": 0}
assert colour.mean((0, 1)).tolist() == [1, 1, 0]
noise = {name: restoration.estimate_sigma(picture) for name, picture in clean.items()}
assert noise["stripes"] < 1e-12 < noise["checks"]
given = restoration.denoise_wavelet(clean["stripes"], sigma=0.01)
assert np.allclose(given, clean["stripes"], atol=0.02)
for name in ("nl_means", "bilateral", "tv_bregman", "tv_chambolle"):
    assert np.isfinite(getattr(restoration, f"denoise_{name}")(clean["stripes"])).all()
PYTHON
