#!/usr/bin/env bash
# Pillow turns a 16-bit grey PNG into a white picture when asked for RGB.
#
# Expected: convert("RGB") scales 65535 to 255, as it does for a 16-bit colour PNG and as OpenCV
#           does.
# Seen:     a grey picture opens in mode "I;16", and convert("RGB") and convert("L") clip at 255:
#           all but the darkest 0.4 % of the range is white. Nothing is raised or warned. Readers
#           that convert for their users do the same: Ray's read_images(mode="RGB"), Hugging
#           Face's Image(mode="RGB"), webdataset's decode("pil").
# Versions: Pillow 13.0.0, opencv-python-headless 5.0.0.93 (Python 3.11).
# Hurts:    who feeds X-rays, microscopy or depth as PNG or TIFF: the model sees white, and a fit
#           on such files calls everything alike.
# Instead:  divide before the conversion (numpy: a // 257), or read with OpenCV's IMREAD_COLOR.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'pillow==13.0.0' 'opencv-python-headless==5.0.0.93' 'numpy==2.4.6'
"$dir/venv/bin/python" - <<'PYTHON'
import io

import cv2
import numpy as np
import PIL
from PIL import Image

ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
wanted = ramp / 257
_, grey = cv2.imencode(".png", ramp)
_, colour = cv2.imencode(".png", np.dstack([ramp] * 3))

image = Image.open(io.BytesIO(grey.tobytes()))
clipped = np.asarray(image.convert("RGB"))
scaled = np.asarray(Image.open(io.BytesIO(colour.tobytes())).convert("RGB"))
opencv = cv2.imdecode(grey, cv2.IMREAD_COLOR)

white = float((clipped == 255).mean())
print(f"Pillow {PIL.__version__}: grey PNG opens as {image.mode}, white in RGB: {white:.3f}")
print(f"Pillow, colour PNG: {np.abs(scaled[..., 0] - wanted).max():.1f} levels off")
print(f"OpenCV {cv2.__version__}, grey PNG: {np.abs(opencv[..., 0] - wanted).max():.1f} levels off")
assert image.mode == "I;16" and white > 0.99
assert np.abs(scaled[..., 0] - wanted).max() <= 1
assert np.abs(opencv[..., 0] - wanted).max() <= 1
PYTHON
