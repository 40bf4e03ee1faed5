"""A whole Triage in one ONNX file, in ONNX Runtime and where PyTorch cannot be imported."""

import functools
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from digits import images as digits
from digits import trained
from onnx_answers import answer, unoptimised
from pytorch_ood.detector import ReAct, fDBD
from torch import nn

from pytorch_ood_viyog import Triage, Verdict, export_onnx
from pytorch_ood_viyog.deploy import onnx_file
from pytorch_ood_viyog.deploy.triage_graph import TriageGraph

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
# the images are few, and the net is tiny
pytestmark = pytest.mark.filterwarnings("ignore:Only .* attacks of the family")

SCRIPT = Path(__file__).parents[2] / "examples" / "deployment" / "serve_onnx.py"
#: a process in which neither PyTorch nor this package can be imported
WITHOUT_TORCH = """
import runpy, sys
import onnxruntime
onnxruntime.set_default_logger_severity(3)  # it warns of graphs that are not optimised
sys.modules.update(dict.fromkeys(["torch", "torchvision", "pytorch_ood", "pytorch_ood_viyog"]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
BATCH = torch.export.Dim("batch")


def mixed(x):
    """ID images, attacked ones (random signs do for the first layer) and noise."""
    noise = torch.rand(20, *x.shape[1:], generator=torch.Generator().manual_seed(3))
    signs = 0.2 * (noise - 0.5).sign()
    return torch.cat([x[:20], (x[20:40] + signs).clamp(0, 1), noise])


@functools.cache
def fitted(look):
    """A triage with all the evidence."""
    model, ((fit, y), (held, _)) = trained(), digits()
    options = {"id_fpr": 0.1, "noisy_fpr": 0.1, "simulate_on": 60, "leave_out": ["smooth"]}
    made = Triage(model, look=look, evidence={"fDBD": fDBD(None, model[-1])}, **options)
    return made.fit([(fit, y)], [held[:150]], progress=False)


@pytest.fixture(scope="module")
def triage():
    return fitted("open")


@pytest.fixture(scope="module")
def stream():
    return mixed(digits()[1][0][150:])


@pytest.fixture(scope="module")
def exported(triage, stream, tmp_path_factory):
    """The triage in a file: the one export of all of these tests, as it takes most of the time."""
    path = tmp_path_factory.mktemp("exported") / "t.onnx"
    with unoptimised():
        return export_onnx(triage.pipeline.model, triage, path, stream[:8], labels="0123456789")


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
    """In PyTorch; of the file only the rule, as the rest is in the file above."""
    made, x, seen = fitted(look), torch.cat([stream, extremes(stream)]), []
    graph = TriageGraph(made).eval()
    graph.rule.register_forward_hook(lambda rule, given, result: seen.append(given[0]))
    with torch.no_grad():
        assert_says_the_same(dict(zip(graph.names, graph(x), strict=True)), made, x)
        graph.rule._forward_hooks.clear()
        [numbers] = seen
        some = {name: values[:8] for name, values in numbers.items()}
        program = torch.onnx.export(
            graph.rule,
            kwargs={"numbers": some},
            dynamo=True,
            verbose=False,
            dynamic_shapes={"numbers": {name: {0: BATCH} for name in some}},
            optimize=False,
        )
    program.save(tmp_path / "rule.onnx")
    session = onnxruntime.InferenceSession(
        tmp_path / "rule.onnx", providers=["CPUExecutionProvider"]
    )
    given = dict(zip([i.name for i in session.get_inputs()], numbers.values(), strict=True))
    found = session.run(None, {name: values.numpy() for name, values in given.items()})
    names = [name for name in graph.names if name != "logits"]
    tensors = {name: torch.as_tensor(y) for name, y in zip(names, found, strict=True)}
    assert_says_the_same(tensors, made, x)


def test_what_is_not_finite_is_no_answer(stream, exported):
    broken = stream[:2].clone()
    broken[1, 0, 3, 3] = float("nan")
    assert answer(exported, broken)[0]["verdict"].tolist()[1] == 1


def test_verdicts_are_compared_too(triage, stream, exported, tmp_path, monkeypatch):
    def other(self, outputs):
        return {"verdict": 1 - outputs["verdict"]}

    def written(graph, path, *_):  # the graph is the same
        shutil.copy(exported, path)

    monkeypatch.setattr(onnx_file, "_write", written)
    monkeypatch.setattr("pytorch_ood_viyog.deploy.triage_graph.TriageGraph.concluded", other)
    with pytest.raises(RuntimeError, match="'verdict'"):
        export_onnx(triage.pipeline.model, triage, tmp_path / "t.onnx", stream[:4])


def test_a_triage_is_exported_with_its_own_model_and_thresholds(model, triage, stream, tmp_path):
    with pytest.raises(ValueError, match="model of the triage"):
        export_onnx(model, triage, tmp_path / "m.onnx", stream[:4])
    with pytest.raises(ValueError, match="its own thresholds"):
        export_onnx(triage.pipeline.model, triage, tmp_path / "m.onnx", stream[:4], thresholds=2)
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


# -- served without PyTorch ------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(triage, exported):
    """An ID image, a noise image and a broken one beside the file, and what it should say."""
    image = pytest.importorskip("PIL.Image")
    noise = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).round()
    pixels = torch.stack([digits()[1][0][201, 0], noise]).mul(255).round()
    for name, values in zip(("id.png", "noise.png"), pixels, strict=True):
        image.fromarray(values.byte().numpy()).save(exported.parent / name)
    whole = (exported.parent / "id.png").read_bytes()
    (exported.parent / "broken.png").write_bytes(whole[:60])
    x = pixels.unsqueeze(1) / 255
    return exported, triage.explain(x), triage.pipeline.model(x)


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
    for i, told in enumerate(answers):
        assert told["file"] == str(files[i])
        assert told["label"] == str(int(logits[i].argmax()))
        assert told["verdict"] == names[int(explained.verdicts[i])]
        assert list(told["posterior"]) == ["ID", "OOD", "ADV", "NOISY"]
        shares = list(told["posterior"].values())
        assert shares == pytest.approx(explained.posterior[i].tolist(), abs=1e-3)
        for name, p_values in explained.p_values.items():
            assert told[f"p_{name}"] == pytest.approx(float(p_values[i]), abs=0.011)
    assert answers[1]["verdict"] != "ID", "noise"


def test_requests_are_answered_without_torch(served):
    path, explained, _ = served
    server = start(path, "--port", 0)
    try:
        address = server.stderr.readline().strip()
        image = (path.parent / "noise.png").read_bytes()
        with urllib.request.urlopen(address, data=image, timeout=60) as reply:
            told = json.load(reply)
        assert told["verdict"] == {1: "OOD", -1: "ADV", 2: "NOISY"}[int(explained.verdicts[1])]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(address, data=b"no image", timeout=60)
    finally:
        server.terminate()
        server.communicate(timeout=60)


def test_the_process_of_these_tests_has_no_torch():
    program = WITHOUT_TORCH.replace("runpy.run_path", "import torch; runpy.run_path")
    process = subprocess.run([sys.executable, "-c", program, SCRIPT], capture_output=True)
    assert b"ModuleNotFoundError" in process.stderr
