"""ONNX files of models with detectors, answered by ONNX Runtime."""

import sys

import numpy as np
import pytest
import torch
from inside import Chunked, Frames, Pairs
from manners import untouched
from onnx_answers import answer
from pytorch_ood.api import RequiresFittingException
from smooth_images import images as smooth_images
from torch import nn

from pytorch_ood_viyog import Viyog, ViyogTV, export_onnx
from pytorch_ood_viyog.deploy import onnx_check

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


def test_one_detector(model, images, tmp_path):
    detector = ViyogTV(model).fit([images])
    with untouched(model):
        path = export_onnx(
            model, detector, tmp_path / "m.onnx", images[:4], thresholds=1.5, labels="abcde"
        )
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    found, metadata = answer(path, images)
    with torch.no_grad():
        torch.testing.assert_close(found["logits"], model(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["score"], detector(images), rtol=1e-4, atol=1e-4)
    assert metadata["thresholds"] == {"score": 1.5}
    assert metadata["labels"] == list("abcde")
    assert metadata["detectors"] == {"score": "ViyogTV"}
    assert metadata["package"].startswith("pytorch-ood-viyog ")
    [one] = answer(path, images[:1])[0]["score"]
    assert float(one) == pytest.approx(float(found["score"][0]), rel=1e-4)


@pytest.mark.parametrize("make", [Frames, Pairs])
def test_models_that_run_their_layer_several_times(make, tmp_path):
    shape = (5, 3, 32, 32) if make is Frames else (6, 32, 32)
    x = smooth_images(240, 0, 32).reshape(-1, *shape)
    model = make()
    detector = ViyogTV(model).fit(list(x.split(16)), progress=False)
    path = export_onnx(model, detector, tmp_path / "m.onnx", x[:4])
    for count in (1, 3, 20):
        found, _ = answer(path, x[:count])
        torch.testing.assert_close(found["score"], detector(x[:count]), rtol=1e-3, atol=1e-3)


def test_a_model_that_works_in_parts_has_one_size_of_batches(tmp_path):
    x = smooth_images(40, 0, 32)
    model = Chunked()
    detector = ViyogTV(model).fit(list(x.split(20)), progress=False)
    with pytest.raises(RuntimeError, match=r"Chunked can be exported for batches of 4 only"):
        export_onnx(model, detector, tmp_path / "m.onnx", x[:4])
    assert not list(tmp_path.iterdir())


def test_several_detectors(model, images, tmp_path):
    detectors = {"tv": ViyogTV(model).fit([images]), "mean": Viyog(model).fit([images])}
    limits = {"mean": 2, "tv": 3.5}
    path = export_onnx(model, detectors, tmp_path / "m.onnx", images[:1], thresholds=limits)
    found, metadata = answer(path, images)
    assert list(found) == ["logits", "score_tv", "score_mean"]
    for name, detector in detectors.items():
        expected = detector(images)
        torch.testing.assert_close(found[f"score_{name}"], expected, rtol=1e-4, atol=1e-4)
    assert metadata["thresholds"] == {"score_mean": 2.0, "score_tv": 3.5}


def test_a_file_that_differs_is_not_written(model, images, tmp_path, monkeypatch):
    """A constant in the graph, as an export makes it of what NumPy computed."""

    class Numpy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            return self.net(x) + torch.tensor(float(np.random.default_rng().normal()))

    detector = ViyogTV(model).fit([images])
    path = tmp_path / "m.onnx"
    path.write_text("older")
    with pytest.raises(RuntimeError, match=r"'logits' .* differs by up to"):
        export_onnx(Numpy(), detector, path, images[:4], layer="net.stem.conv")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"]


def test_far_inputs_are_far_and_differ():
    example = 0.2 + 0.5 * torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    far = onnx_check.far_inputs(example)
    assert far.unique(dim=0).shape == (7, 1, 8, 8)
    assert float(far[0].abs().max()) == 0
    assert float(far.max()) > 100
    residue = (far[5] - example[0]).abs() * 255 / (example.max() - example.min())
    torch.testing.assert_close(residue, torch.full_like(residue, 8.0), rtol=1e-3, atol=0)
    assert onnx_check.far_inputs(torch.zeros(1, 1, 8, 8)).unique(dim=0).shape[0] > 4


def test_what_goes_wrong_far_from_the_example_is_found(model, images, tmp_path, monkeypatch):
    def answer(path):
        def wrong_in_the_dark(x):
            values = [torch.as_tensor(v) for v in exact(path)(x)]
            dark = torch.as_tensor(x).flatten(1).abs().amax(dim=1) == 0
            return [values[0], torch.where(dark, torch.inf, values[1])]

        return wrong_in_the_dark

    exact = onnx_check.RUNTIMES["onnxruntime"]
    monkeypatch.setitem(onnx_check.RUNTIMES, "onnxruntime", answer)
    detector = ViyogTV(model).fit([images])
    with pytest.raises(RuntimeError, match=r"'score' of the ONNX file .* differs by up to inf"):
        export_onnx(model, detector, tmp_path / "m.onnx", images[:2])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"example must be finite, got NaN or inf"):
        export_onnx(model, detector, tmp_path / "m.onnx", images[:2] * torch.nan)


def test_compared_are_shapes_and_numbers():
    compare = onnx_check._compare
    compare("a", torch.tensor([1.0, float("nan")]), torch.tensor([1.0005, float("nan")]), 1e-3)
    with pytest.raises(RuntimeError, match=r"shape \(1,\) instead of \(2,\)"):
        compare("a", torch.ones(1), torch.ones(2), 1e-3)
    with pytest.raises(RuntimeError, match=r"Output a .* up to 0\.1 "):
        compare("a", torch.ones(2), torch.tensor([1.0, 1.1]), 1e-3)


def test_an_opset_is_kept_or_refused(model, images, tmp_path):
    path, detector = tmp_path / "m.onnx", ViyogTV(model).fit([images])
    with pytest.raises(RuntimeError, match=r"operators of opset 99, only of \d+. No file"):
        export_onnx(model, detector, path, images[:4], opset=99)
    assert not list(tmp_path.iterdir())
    export_onnx(model, detector, path, images[:4], opset=20)
    assert [each.version for each in onnx.load(path).opset_import if not each.domain] == [20]


def test_what_it_refuses(model, images, tmp_path, monkeypatch):
    path, detector = tmp_path / "m.onnx", ViyogTV(model).fit([images])
    with pytest.raises(RequiresFittingException):
        export_onnx(model, ViyogTV(model), path, images[:4])
    with pytest.raises(TypeError, match="got str"):
        export_onnx(model, "ViyogTV", path, images[:4])
    with pytest.raises(ValueError, match=r"path must be in a folder that exists, got .*none"):
        export_onnx(model, detector, tmp_path / "none" / "m.onnx", images[:4])
    with pytest.raises(TypeError, match="tolerance"):
        export_onnx(model, detector, path, images[:4], tolerance="small")
    with pytest.raises(ValueError, match=r"one number, got \{'tv': 3\}"):
        export_onnx(model, detector, path, images[:4], thresholds={"tv": 3})
    with pytest.raises(ValueError, match=r"names \['tv'\], got 3"):
        export_onnx(model, {"tv": detector}, path, images[:4], thresholds=3)
    with pytest.raises(ValueError, match="no detectors"):
        export_onnx(model, {}, path, images[:4])
    with pytest.raises(ValueError, match=r"2 names for logits of shape \(1, 5\)"):
        export_onnx(model, detector, path, images[:4], labels=["cat", "dog"])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"needs onnxscript: pip install .*\[onnx\]"):
        export_onnx(model, detector, path, images[:4])
    assert not list(tmp_path.iterdir())
