#!/usr/bin/env bash
# Hugging Face datasets and OpenCV turn a photograph by its EXIF tag, Pillow and the others do not.
#
# Expected: datasets hands out what Pillow opens, as it decodes with Pillow.
# Seen:     of one portrait photograph of a phone (orientation 6) Pillow, simplejpeg and pyvips
#           give the stored landscape pixels; the Image feature of datasets and OpenCV's imread
#           turn them.
# Versions: datasets 5.2.0, Pillow 13.0.0, opencv-python-headless 5.0.0.93, simplejpeg 1.9.0,
#           pyvips 3.2.0 with pyvips-binary 8.18.7 (Python 3.11).
# Hurts:    who fits on a folder read with Pillow (or torchvision, which uses it) and serves from
#           one of the others: each phone photograph lies on its side, and OOD scores rise for no
#           reason in the picture.
# Instead:  PIL.ImageOps.exif_transpose on both sides.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'datasets==5.2.0' 'pillow==13.0.0' 'simplejpeg==1.9.0' \
  'opencv-python-headless==5.0.0.93' 'pyvips==3.2.0' 'pyvips-binary==8.18.7' 'numpy==2.4.6'
cd "$dir"
HF_HOME="$dir" HF_HUB_OFFLINE=1 "$dir/venv/bin/python" -W ignore - <<'PYTHON'
from pathlib import Path

import cv2
import datasets
import numpy as np
import pyvips
import simplejpeg
from PIL import Image

tags = Image.Exif()
tags[0x0112] = 6  # to be turned by a quarter
Image.new("RGB", (48, 32)).save("photo.jpg", exif=tags)
features = datasets.Features({"image": datasets.Image()})
table = datasets.Dataset.from_dict({"image": ["photo.jpg"]}, features=features)
shapes = {
    "Pillow": np.asarray(Image.open("photo.jpg")).shape,
    "simplejpeg": simplejpeg.decode_jpeg(Path("photo.jpg").read_bytes()).shape,
    "pyvips": pyvips.Image.new_from_file("photo.jpg").numpy().shape,
    "OpenCV": cv2.imread("photo.jpg").shape,
    "datasets": np.asarray(table[0]["image"]).shape,
}
print("datasets", datasets.__version__, "rows, columns, channels:", shapes)
turned = {name for name, shape in shapes.items() if shape == (48, 32, 3)}
assert turned == {"OpenCV", "datasets"}
assert all(shapes[name] == (32, 48, 3) for name in shapes.keys() - turned)
PYTHON
