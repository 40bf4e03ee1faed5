"""ONNX files answer where PyTorch cannot be imported."""

import json
import runpy
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from digits import images as digits
from digits import trained

from pytorch_ood_viyog import Triage, export_onnx
from pytorch_ood_viyog.images.disk.decoding import read_image

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
image = pytest.importorskip("PIL.Image")

SCRIPT = Path(__file__).parents[2] / "examples" / "deployment" / "serve_onnx.py"
pytestmark = pytest.mark.filterwarnings("ignore:Only .* attacks of the family")
#: a process in which neither PyTorch nor this package can be imported
WITHOUT_TORCH = """
import runpy, sys
sys.modules.update(dict.fromkeys(["torch", "torchvision", "pytorch_ood", "pytorch_ood_viyog"]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A triage in a file, and an ID image, a noise image and a broken one with its verdicts."""
    folder, model = tmp_path_factory.mktemp("served"), trained()
    (fit, y), (held, _) = digits()
    # evidence whose nodes would take most of the time of the export
    few = dict.fromkeys(["ResidueAlarm", "smooth residue", "noise floor"])
    triage = Triage(model, evidence=few, id_fpr=0.1, noisy_fpr=0.1, look="never")
    triage.fit([(fit, y)], [held[:200]], progress=False)
    path = export_onnx(model, triage, folder / "t.onnx", held[:4], labels="0123456789")
    noise = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).round()
    pixels = torch.stack([held[201, 0], noise]).mul(255).round()
    for name, values in zip(("id.png", "noise.png"), pixels, strict=True):
        image.fromarray(values.byte().numpy()).save(folder / name)
    (folder / "broken.png").write_bytes((folder / "id.png").read_bytes()[:60])
    return path, triage.explain(pixels.unsqueeze(1) / 255), model(pixels.unsqueeze(1) / 255)


def start(*arguments):
    command = [sys.executable, "-c", WITHOUT_TORCH, SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_images_are_answered_without_torch(served):
    path, explained, logits = served
    files = [path.parent / name for name in ("id.png", "noise.png", "broken.png")]
    printed, errors = start(path, *files).communicate(timeout=100)
    assert errors == ""
    *answers, broken = [json.loads(line) for line in printed.splitlines()]
    assert list(broken) == ["file", "error"]
    names = {0: "ID", 1: "OOD", -1: "ADV", 2: "NOISY"}
    for i, answer in enumerate(answers):
        assert answer["file"] == str(files[i])
        assert answer["label"] == str(int(logits[i].argmax()))
        assert answer["verdict"] == names[int(explained.verdicts[i])]
        assert list(answer["posterior"]) == ["ID", "OOD", "ADV", "NOISY"]
        shares = list(answer["posterior"].values())
        assert shares == pytest.approx(explained.posterior[i].tolist(), abs=1e-3)
        for name, p_values in explained.p_values.items():
            assert answer[f"p_{name}"] == pytest.approx(float(p_values[i]), abs=0.011)
    assert answers[1]["verdict"] != "ID", "noise"


def test_requests_are_answered_without_torch(served):
    path, explained, _ = served
    server = start(path, "--port", 0)
    try:
        address = server.stderr.readline().strip()
        image = (path.parent / "noise.png").read_bytes()
        with urllib.request.urlopen(address, data=image, timeout=60) as reply:
            answer = json.load(reply)
        assert answer["verdict"] == {1: "OOD", -1: "ADV", 2: "NOISY"}[int(explained.verdicts[1])]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(address, data=b"no image", timeout=60)
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_the_process_of_these_tests_has_no_torch(served):
    program = WITHOUT_TORCH.replace("runpy.run_path", "import torch; runpy.run_path")
    process = subprocess.run([sys.executable, "-c", program, SCRIPT], capture_output=True)
    assert b"ModuleNotFoundError" in process.stderr


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
