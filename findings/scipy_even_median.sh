#!/usr/bin/env bash
# SciPy's 2 x 2 median filter makes noisy pictures brighter.
#
# Expected: the median of four values is the mean of the middle two, as numpy.median has it.
# Seen:     scipy.ndimage.median_filter takes the upper of the two, for every window with an even
#           number of pixels. On noise of deviation s the mean rises by 0.30 s (a 4 x 4 window:
#           0.08 s); 3 x 3 leaves it. Beside that an even window sits half a pixel up and left.
# Versions: SciPy 1.17.1 (Python 3.11).
# Hurts:    who compares a model's answer before and after the 2 x 2 median of feature squeezing:
#           part of the difference is a change of brightness that grows with the noise.
# Instead:  an odd window, or numpy.median over sliding_window_view for a 2 x 2 one.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'scipy==1.17.1' 'numpy==2.4.6'
"$dir/venv/bin/python" - <<'PYTHON'
import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import median_filter

print("SciPy", scipy.__version__)
four = median_filter(np.array([0.0, 1.0, 2.0, 3.0]), size=2)
print("median of neighbours in 0 1 2 3:", four)
assert four.tolist() == [0, 1, 2, 3]  # numpy: 0.5, 1.5, 2.5 between

noise = np.random.default_rng(0).normal(0, 1, (600, 600))
shift = {size: float(median_filter(noise, size=size).mean()) for size in (2, 3, 4, 5)}
shift["numpy 2"] = float(np.median(sliding_window_view(noise, (2, 2)), axis=(2, 3)).mean())
print("rise of the mean in deviations:", {size: round(value, 3) for size, value in shift.items()})
assert 0.27 < shift[2] < 0.33 and 0.04 < shift[4] < 0.12
assert all(abs(shift[size]) < 0.01 for size in (3, 5, "numpy 2"))
PYTHON
