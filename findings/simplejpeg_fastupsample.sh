#!/usr/bin/env bash
# simplejpeg's fastupsample changes coloured edges by tens of levels.
#
# Expected: "fast" options of a JPEG decoder cost a few levels, fastdct more than fastupsample.
# Seen:     fastdct is a few levels off everywhere. fastupsample leaves 4:4:4 files as they are,
#           but in 4:2:0 (the default of most encoders) it repeats the halved chroma instead of
#           interpolating: coloured edges are more than 50 levels off. Without options the pixels
#           are those of Pillow, bit for bit.
# Versions: simplejpeg 1.9.0, Pillow 13.0.0 (Python 3.11).
# Hurts:    who takes the option for a faster loader and keeps thresholds that were fitted
#           without.
# Instead:  leave fastupsample off; fastdct only if fit and use both have it.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'simplejpeg==1.9.0' 'pillow==13.0.0' 'numpy==2.4.6'
"$dir/venv/bin/python" - <<'PYTHON'
import io

import numpy as np
import simplejpeg
from PIL import Image

y, x = np.mgrid[:96, :128]
waves = 128 + 100 * np.sin(x / 9), 128 + 100 * np.sin(y / 7), 128 + 100 * np.sin((x + y) / 11)
picture = np.stack(waves, -1).astype(np.uint8)
picture[30:60, 41:81] = 220, 20, 30


def differences(subsampling):
    """Largest difference to Pillow without options, with fastdct, with fastupsample."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=90, subsampling=subsampling)
    data = stream.getvalue()
    pillow = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    ways = {}, {"fastdct": True}, {"fastupsample": True}
    read = [simplejpeg.decode_jpeg(data, **way) for way in ways]
    return [int(np.abs(pixels - pillow).max()) for pixels in read]


halved, full = differences("4:2:0"), differences("4:4:4")
print("simplejpeg", simplejpeg.__version__)
print(f"plain, fastdct, fastupsample: 4:2:0 {halved}, 4:4:4 {full}")
assert halved[0] == full[0] == 0
assert 0 < halved[1] <= 16 and halved[2] > 50 and full[2] == 0
PYTHON
