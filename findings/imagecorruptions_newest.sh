#!/usr/bin/env bash
# Three of the common corruptions no longer run beside today's NumPy and scikit-image.
#
# Expected: a package that installs without a conflict runs all of its 19 corruptions.
# Seen:     fog asks for np.float_, which NumPy 2 took away; gaussian_blur and glass_blur give
#           scikit-image an argument that it took away (multichannel). The others run. The
#           package names no upper bounds, so pip installs the newest.
# Versions: imagecorruptions 1.1.2, NumPy 2.4.6, scikit-image 0.26.0, opencv-python 5.0.0.93
#           (Python 3.11).
# Hurts:    who makes the corrupted set in a loop that catches errors: three corruptions are
#           missing from the mean, two of them blurs, which are the ones that look least like
#           noise.
# Instead:  an environment of its own with older releases, or own blurs and fog; never a mean over
#           whatever ran.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'imagecorruptions==1.1.2' 'numpy==2.4.6' 'scikit-image==0.26.0' \
  'opencv-python==5.0.0.93' 'setuptools<81'
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
from importlib.metadata import version

import imagecorruptions
import numpy as np

picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
broken = {}
names = imagecorruptions.get_corruption_names("all")
for name in names:
    try:
        imagecorruptions.corrupt(picture, corruption_name=name, severity=3)
    except (TypeError, AttributeError) as error:
        broken[name] = str(error)[:70]
print("imagecorruptions", version("imagecorruptions"), f"{len(names)} corruptions")
for name, message in broken.items():
    print(f"{name}: {message}")
assert len(names) == 19 and set(broken) == {"fog", "gaussian_blur", "glass_blur"}
PYTHON
