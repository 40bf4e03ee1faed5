#!/usr/bin/env bash
# webdataset cuts file names at the first dot: two pictures become one sample.
#
# Expected: "scan_0.1.png" is the sample "scan_0.1" with a "png".
# Seen:     the key is "scan_0" and the field "1.png". "scan_0.1" and "scan_0.2" of one tar file
#           become one sample with fields "1.png" and "2.png"; the labels likewise. No error when
#           reading: without to_tuple a sample is lost, with to_tuple("png") there is an error on
#           the field.
# Versions: webdataset 1.0.2 (Python 3.11).
# Hurts:    who packs files whose names hold a version, a time or a noise level: counts of ID and
#           OOD samples are too low, or a filter of incomplete samples drops all of them.
# Instead:  replace dots in the names before the tar is written, and compare the counts.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q 'webdataset==1.0.2' 'pillow==13.0.0' 'numpy==2.4.6'
cd "$dir"
"$dir/venv/bin/python" -W ignore - <<'PYTHON'
import io
import tarfile
from importlib.metadata import version

import webdataset
from PIL import Image

stream = io.BytesIO()
Image.new("RGB", (4, 4)).save(stream, "PNG")
with tarfile.open("scans.tar", "w") as archive:
    for name in "scan_0.1", "scan_0.2", "plain":
        for ending, content in ("png", stream.getvalue()), ("cls", b"1"):
            entry = tarfile.TarInfo(f"{name}.{ending}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))

samples = list(webdataset.WebDataset("scans.tar", shardshuffle=False))
fields = {s["__key__"]: sorted(k for k in s if not k.startswith("__")) for s in samples}
print("webdataset", version("webdataset"), "reads three pictures as", fields)
assert fields == {"scan_0": ["1.cls", "1.png", "2.cls", "2.png"], "plain": ["cls", "png"]}
PYTHON
