"""The script that serves ONNX files decodes images as the package; see also tests/deploy."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from pytorch_ood_viyog.images.disk.decoding import read_image

pytest.importorskip("onnxruntime")
image = pytest.importorskip("PIL.Image")

SCRIPT = Path(__file__).parents[2] / "examples" / "deployment" / "serve_onnx.py"


@pytest.fixture
def answerer():
    """Of colour images of 16 pixels, without a model."""
    kind = runpy.run_path(str(SCRIPT))["Answerer"]
    answerer = kind.__new__(kind)
    answerer.channels, answerer.size = 3, (16, 16)
    return answerer


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "I;16", "F", "CMYK", "turned"])
def test_images_are_decoded_as_the_package_does(answerer, tmp_path, mode):
    values = np.arange(64 * 48).reshape(48, 64) % 251
    if mode == "I;16":
        drawn = image.fromarray((values * 257).astype(np.uint16))
    elif mode == "F":
        drawn = image.fromarray((values / 255).astype(np.float32))
    else:
        drawn = image.fromarray(values.astype(np.uint8)).convert("RGB")
        drawn = drawn if mode == "turned" else drawn.convert(mode)
    if "A" in mode:
        drawn.putalpha(image.fromarray((values // 2).astype(np.uint8)))
    exif = image.Exif()
    exif[0x0112] = 6 if mode == "turned" else 1
    drawn.save(tmp_path / "a.tif", exif=exif)
    with image.open(tmp_path / "a.tif") as opened:
        pixels = answerer._pixels(opened)
    np.testing.assert_allclose(pixels, read_image(tmp_path / "a.tif", 16), atol=1e-6)


def test_values_of_no_known_range_are_an_error(answerer, tmp_path):
    image.fromarray(np.full((4, 4), 7, np.float32)).save(tmp_path / "a.tif")
    assert "values must be from 0 to 1" in answerer.answer(tmp_path / "a.tif")["error"]
