"""Which nodes judge, and what is left of a score in fewer bits."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from digits import images as digits
from digits import trained
from PIL import Image
from torch import nn

from pytorch_ood_viyog import ViyogResidue, export_onnx
from pytorch_ood_viyog.deploy import score_nodes

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

sys.path.append(str(Path(__file__).parents[2] / "examples" / "deployment"))
shrink_onnx = pytest.importorskip("shrink_onnx")


class Normalised(nn.Module):
    """A model that prepares its inputs itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model((x - 0.31) / 0.37)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A file, and batches of ID images and such with random signs."""
    (fit, _), (held, _) = digits()
    model = Normalised(trained())
    detector = ViyogResidue(model, eps=(16 / 255,)).fit([fit[:200]])
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    export_onnx(model, detector, path, held[:4].to(memory_format=torch.channels_last))
    signs = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5
    attacked = (held[:100] + 16 / 255 * signs.sign()).clamp(0, 1)
    return path, [part.numpy() for part in torch.cat([held[:100], attacked]).split(40)]


def test_nodes_of_the_score_and_what_it_reads(exported):
    own = set(score_nodes(exported[0]))
    nodes = onnx.load(exported[0]).graph.node
    first = [node.name for node in nodes if "input" in node.input]
    assert first
    assert set(first) <= own, "the normalisation would be rounded"
    kinds = [node.op_type for node in nodes if node.name not in own]
    assert kinds.count("Conv") == 3
    assert len(kinds) < 20 < len(own), "the model's own nodes are few"
    scored = [node for node in nodes if "score" in node.output]
    assert {node.name for node in scored} <= own


@pytest.mark.parametrize("how", ["static-int8", "dynamic-int8", "float16"])
def test_recipes_keep_the_score(exported, how, tmp_path):
    path, batches = exported
    shrink_onnx.shrink(path, tmp_path / "smaller.onnx", how, batches)
    assert [file.name for file in tmp_path.iterdir()] == ["smaller.onnx"]
    before, after = (shrink_onnx.answers(p, batches) for p in (path, tmp_path / "smaller.onnx"))
    np.testing.assert_allclose(after["score"], before["score"], rtol=1e-3, atol=1e-3)
    assert not np.array_equal(after["logits"], before["logits"]), "the model is in fewer bits"


def test_a_recipe_that_changes_the_score_writes_nothing(exported, tmp_path, monkeypatch):
    def broken(path, smaller, batches):
        model = onnx.load(path)
        [last] = [node for node in model.graph.node if "score" in node.output]
        last.op_type = "Abs"
        del last.input[1:]
        onnx.save(model, smaller)

    monkeypatch.setitem(shrink_onnx.WAYS, "broken", broken)
    with pytest.raises(RuntimeError, match=r"broken changes the output 'score': rank"):
        shrink_onnx.shrink(exported[0], tmp_path / "smaller.onnx", "broken", exported[1])
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_changes_verdicts_writes_nothing(tmp_path, monkeypatch):
    found = {"a": np.array([0, 1, -1, 2] * 10), "b": np.array([0, 1, -1, 0] * 10)}
    monkeypatch.setattr(shrink_onnx, "answers", lambda path, _: {"verdict": found[path.stem]})
    monkeypatch.setitem(shrink_onnx.WAYS, "as given", lambda path, smaller, _: smaller.touch())
    shrink_onnx.shrink(tmp_path / "a.onnx", tmp_path / "a.onnx", "as given", [])
    with pytest.raises(RuntimeError, match=r"output 'verdict': share of equal .*0\.75"):
        shrink_onnx.shrink(tmp_path / "a.onnx", tmp_path / "b.onnx", "as given", [])
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]


def test_what_a_folder_of_images_must_hold(tmp_path):
    for number in range(8):
        Image.new("L", (5, 4), 255).save(tmp_path / f"{number}.png")
    [batch] = shrink_onnx.images_of(tmp_path, (6, 7))
    assert batch.shape == (8, 3, 7, 6)
    assert (batch == 1).all()
    (tmp_path / "0.png").write_text("no image")
    with pytest.raises(SystemExit, match=r"must hold images alone, 0.png: cannot identify"):
        shrink_onnx.images_of(tmp_path, (6, 7))
    (tmp_path / "0.png").unlink()
    with pytest.raises(SystemExit, match=r"must hold 8 images or more, got 7"):
        shrink_onnx.images_of(tmp_path, (6, 7))


def test_a_file_without_such_names_is_refused(tmp_path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")
    shape = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "g", shape[:1], shape[1:])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"No node of .*m\.onnx has a name that begins"):
        score_nodes(tmp_path / "m.onnx")


def test_runtimes(model, images, tmp_path):
    detector = ViyogResidue(model).fit([images])
    with pytest.raises(ValueError, match=r"one of \['onnxruntime', 'openvino'\], got 'tensorrt'"):
        export_onnx(model, detector, tmp_path / "m.onnx", images[:2], runtime="tensorrt")
    pytest.importorskip("openvino")
    export_onnx(model, detector, tmp_path / "m.onnx", images[:2], runtime="openvino")
