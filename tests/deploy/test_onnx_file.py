"""ONNX files of models with detectors and with a Triage, answered by ONNX Runtime."""

import functools
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from digits import images as digits
from digits import trained
from inside import Chunked, Frames, Pairs
from manners import untouched
from pytorch_ood.api import RequiresFittingException
from pytorch_ood.detector import ReAct, fDBD
from smooth_images import images as smooth_images
from torch import nn

from pytorch_ood_viyog import Triage, Verdict, Viyog, ViyogResidue, ViyogTV, export_onnx
from pytorch_ood_viyog.deploy import onnx_check, onnx_file

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
# the images are few, and the net is tiny
pytestmark = pytest.mark.filterwarnings("ignore:Only .* attacks of the family")


def answer(path, x):
    """Output -> array, and the metadata, of a file that knows only its own folder."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["input"]
    names = [each.name for each in session.get_outputs()]
    found = session.run(None, {"input": x.numpy()})
    metadata = session.get_modelmeta().custom_metadata_map
    tensors = {name: torch.as_tensor(y) for name, y in zip(names, found, strict=True)}
    return tensors, {name: json.loads(text) for name, text in metadata.items()}


def mixed(x):
    """ID images, attacked ones (random signs do for the first layer) and noise."""
    noise = torch.rand(20, *x.shape[1:], generator=torch.Generator().manual_seed(3))
    signs = 0.2 * (noise - 0.5).sign()
    return torch.cat([x[:20], (x[20:40] + signs).clamp(0, 1), noise])


#: evidence whose nodes would take most of the time of an export
MUCH = ("ResidueAlarm", "smooth residue", "noise floor", "KNN")


@functools.cache
def fitted(look, without=()):
    model, ((fit, y), (held, _)) = trained(), digits()
    options = {"id_fpr": 0.1, "noisy_fpr": 0.1, "simulate_on": 60, "leave_out": ["smooth"]}
    evidence = {"fDBD": fDBD(None, model[-1]), **dict.fromkeys(without)}
    made = Triage(model, look=look, evidence=evidence, **options)
    return made.fit([(fit, y)], [held[:150]], progress=False)


@pytest.fixture(scope="module")
def triage():
    return fitted("open")  # with all the evidence


@pytest.fixture(scope="module")
def stream():
    return mixed(digits()[1][0][150:])


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
    detector = ViyogResidue(model).fit(list(x.split(16)), progress=False)
    path = export_onnx(model, detector, tmp_path / "m.onnx", x[:4])
    for count in (1, 3, 20):
        found, _ = answer(path, x[:count])
        torch.testing.assert_close(found["score"], detector(x[:count]), rtol=1e-3, atol=1e-3)


def test_a_model_that_works_in_parts_has_one_size_of_batches(tmp_path):
    x = smooth_images(40, 0, 32)
    model = Chunked()
    detector = ViyogResidue(model).fit(list(x.split(20)), progress=False)
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


@pytest.fixture(scope="module")
def exported(triage, stream, tmp_path_factory):
    """The triage in a file."""
    path = tmp_path_factory.mktemp("exported") / "t.onnx"
    return export_onnx(triage.pipeline.model, triage, path, stream[:8])


def assert_says_the_same(found, triage, x):
    expected = triage.explain(x)
    z = triage.log_odds(x)
    torch.testing.assert_close(found["log_odds"], z, rtol=1e-3, atol=1e-2)
    # where the odds are at a threshold, rounding may decide
    near = (found["verdict"] != expected.verdicts).double().mean()
    assert float(near) <= 0.02
    known = triage.fitted.thresholds.known.shape[1]
    for name, p in expected.p_values.items():
        assert float((found[f"p_{name}"] - p).abs().max()) <= 2.1 / (known + 1), name


def extremes(x):
    shape = x.shape[1:]
    noise = torch.rand(4, *shape, generator=torch.Generator().manual_seed(9))
    return torch.cat([torch.zeros(1, *shape), torch.ones(1, *shape), noise])


def test_a_triage_in_one_graph(triage, stream, exported):
    found, metadata = answer(exported, stream)
    assert list(found)[:3] == ["logits", "verdict", "log_odds"]
    assert len(set(found["verdict"].tolist())) > 1, "several are to be compared"
    assert_says_the_same(found, triage, stream)
    assert_says_the_same(answer(exported, extremes(stream))[0], triage, extremes(stream))
    assert metadata["evidence"]["KNN"] == "KNN"
    assert metadata["log_odds"] == ["ID", "OOD", "ADV", "NOISY"]
    assert metadata["verdicts"] == {verdict.name: int(verdict) for verdict in Verdict}


@pytest.mark.parametrize("look", ["always", "never"])
def test_a_triage_that_always_or_never_asks_again(look, stream, tmp_path):
    made = fitted(look, MUCH)
    path = export_onnx(made.model, made, tmp_path / "t.onnx", stream[:8])
    x = torch.cat([stream, extremes(stream)])
    assert_says_the_same(answer(path, x)[0], made, x)


def test_what_is_not_finite_is_no_answer(stream, exported):
    broken = stream[:2].clone()
    broken[1, 0, 3, 3] = float("nan")
    assert answer(exported, broken)[0]["verdict"].tolist()[1] == 1


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


def test_verdicts_are_compared_too(triage, stream, exported, tmp_path, monkeypatch):
    def other(self, outputs):
        return {"verdict": 1 - outputs["verdict"]}

    def written(graph, path, *_):  # the graph is the same
        shutil.copy(exported, path)

    monkeypatch.setattr(onnx_file, "_write", written)
    monkeypatch.setattr("pytorch_ood_viyog.deploy.triage_graph.TriageGraph.concluded", other)
    with pytest.raises(RuntimeError, match="'verdict'"):
        export_onnx(triage.pipeline.model, triage, tmp_path / "t.onnx", stream[:4])


def test_compared_are_shapes_and_numbers():
    compare = onnx_check._compare
    compare("a", torch.tensor([1.0, float("nan")]), torch.tensor([1.0005, float("nan")]), 1e-3)
    with pytest.raises(RuntimeError, match=r"shape \(1,\) instead of \(2,\)"):
        compare("a", torch.ones(1), torch.ones(2), 1e-3)
    with pytest.raises(RuntimeError, match=r"Output a .* up to 0\.1 "):
        compare("a", torch.ones(2), torch.tensor([1.0, 1.1]), 1e-3)


def test_what_it_refuses(model, images, triage, stream, tmp_path, monkeypatch):
    path, detector = tmp_path / "m.onnx", ViyogTV(model).fit([images])
    with pytest.raises(RequiresFittingException):
        export_onnx(model, ViyogTV(model), path, images[:4])
    with pytest.raises(TypeError, match="got str"):
        export_onnx(model, "ViyogTV", path, images[:4])
    with pytest.raises(TypeError, match="tolerance"):
        export_onnx(model, detector, path, images[:4], tolerance="small")
    with pytest.raises(ValueError, match=r"one number, got \{'tv': 3\}"):
        export_onnx(model, detector, path, images[:4], thresholds={"tv": 3})
    with pytest.raises(ValueError, match=r"names \['tv'\], got 3"):
        export_onnx(model, {"tv": detector}, path, images[:4], thresholds=3)
    with pytest.raises(ValueError, match="no detectors"):
        export_onnx(model, {}, path, images[:4])
    with pytest.raises(ValueError, match="model of the triage"):
        export_onnx(model, triage, path, stream[:4])
    with pytest.raises(ValueError, match="its own thresholds"):
        export_onnx(triage.pipeline.model, triage, path, stream[:4], thresholds=2)
    with pytest.raises(ValueError, match=r"2 names for logits of shape \(1, 5\)"):
        export_onnx(model, detector, path, images[:4], labels=["cat", "dog"])
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"needs onnxscript: pip install .*\[onnx\]"):
        export_onnx(model, detector, path, images[:4])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"separate": ["react"]}, {"feature_maps": "6"}])
def test_detectors_that_go_into_no_graph_are_refused(options, tmp_path):
    model, ((fit, y), (held, _)) = trained(), digits()
    react = ReAct(model[:-3], nn.Sequential(*model[-3:]))
    numbers = {"id_fpr": 0.1, "noisy_fpr": 0.1, "look": "never", "simulate_on": 60}
    made = Triage(model, evidence={"react": react}, **numbers, **options)
    made.fit([(fit, y)], [held[:150]], progress=False)
    with pytest.raises(TypeError, match="'react'"):
        export_onnx(model, made, tmp_path / "t.onnx", held[:4])
