#!/usr/bin/env bash
# pyvips decodes the colours of an ordinary AVIF file in blocks of two by two pixels.
#
# Expected: all readers give the pixels of the file within a level, as they do for JPEG and WebP.
# Seen:     in AVIF with 4:2:0 chroma (what Pillow and OpenCV write) Pillow, OpenCV and
#           imagecodecs interpolate the halved colour channels and agree bit for bit; pyvips
#           repeats each sample. At coloured edges its pixels are more than 50 levels off. Of
#           WebP the four give the same pixels.
# Versions: pyvips 3.2.0 with pyvips-binary 8.18.7, Pillow 13.0.0, opencv-python-headless
#           5.0.0.93, imagecodecs 2026.3.6 (Python 3.11).
# Hurts:    who reads with pyvips in production what was calibrated with Pillow: stairs in the
#           chroma are texture that the fit has not seen.
# Instead:  the same decoder on both sides, or AVIF written with subsampling="4:4:4".
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'pyvips==3.2.0' 'pyvips-binary==8.18.7' 'pillow==13.0.0' \
  'opencv-python-headless==5.0.0.93' 'imagecodecs==2026.3.6' 'numpy==2.4.6'
"$dir/venv/bin/python" - <<'PYTHON'
import io

import cv2
import imagecodecs
import numpy as np
import pyvips
from PIL import Image

y, x = np.mgrid[:96, :128]
waves = 128 + 100 * np.sin(x / 9), 128 + 100 * np.sin(y / 7), 128 + 100 * np.sin((x + y) / 11)
picture = np.stack(waves, -1).astype(np.uint8)
picture[30:60, 41:81] = 220, 20, 30
picture[61:80, 90:110] = 10, 40, 230


def differences(kind, decode, **options):
    """Largest difference of each reader to Pillow."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, quality=90, **options)
    data = stream.getvalue()
    pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    read = {
        "OpenCV": cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1],
        "imagecodecs": decode(data),
        "pyvips": pyvips.Image.new_from_buffer(data, "").numpy(),
    }
    return {name: int(np.abs(pixels[..., :3] - pillow).max()) for name, pixels in read.items()}


avif = differences("AVIF", imagecodecs.avif_decode)
full = differences("AVIF", imagecodecs.avif_decode, subsampling="4:4:4")
webp = differences("WEBP", imagecodecs.webp_decode)
print("to Pillow, AVIF 4:2:0:", avif, "AVIF 4:4:4:", full, "WebP:", webp)
assert avif["OpenCV"] <= 1 and avif["imagecodecs"] <= 1 and avif["pyvips"] > 50
assert max(full.values()) <= 2 and max(webp.values()) <= 1
PYTHON
