#!/usr/bin/env bash
# Without a quality WebP is lossy in Pillow, lossless in OpenCV and imagecodecs; AVIF in one.
#
# Expected: without a quality each library takes a middling lossy one, as all of them do for
#           JPEG.
# Seen:     WebP: Pillow is lossy, OpenCV and imagecodecs give every pixel back. AVIF: Pillow and
#           OpenCV are lossy, imagecodecs gives every pixel back.
# Versions: Pillow 13.0.0, opencv-python-headless 5.0.0.93, imagecodecs 2026.3.6 (Python 3.11).
# Hurts:    who measures how a detector or an attack stands a codec: with two of the three the
#           codec is the identity, and the table says "unharmed by WebP".
# Instead:  always give the quality, and check once that a picture comes back changed.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'pillow==13.0.0' 'opencv-python-headless==5.0.0.93' \
  'imagecodecs==2026.3.6' 'numpy==2.4.6'
"$dir/venv/bin/python" - <<'PYTHON'
import io

import cv2
import imagecodecs
import numpy as np
from PIL import Image

y, x = np.mgrid[:96, :128]
planes = 128 + 100 * np.sin(x * y / 90), x + y, 255 * (x // 7 % 2)
picture = np.stack(planes, -1).astype(np.uint8)


def pillow(kind):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind)
    return np.asarray(Image.open(stream))


def opencv(kind):
    return cv2.imdecode(cv2.imencode(f".{kind}", picture)[1], cv2.IMREAD_COLOR)


def codecs(kind):
    encoded = getattr(imagecodecs, f"{kind}_encode")(picture)
    return getattr(imagecodecs, f"{kind}_decode")(encoded)


lost = {
    (kind, way.__name__): int(np.abs(way(kind).astype(int) - picture).max())
    for kind in ("jpeg", "webp", "avif")
    for way in (pillow, opencv, codecs)
}
for key, levels in lost.items():
    print(*key, "largest change", levels)
unchanged = {key for key, levels in lost.items() if levels == 0}
assert unchanged == {("webp", "opencv"), ("webp", "codecs"), ("avif", "codecs")}
PYTHON
