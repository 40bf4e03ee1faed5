"""A second look at maps as one graph: in PyTorch, and exported to an ONNX file."""

import pytest
import torch
from attacked import attacked, id_batches, id_images, trained
from manners import untouched
from pytorch_ood.api import RequiresFittingException
from torch import nn

from pytorch_ood_viyog import SecondLook, ViyogTV, export_onnx
from pytorch_ood_viyog.deploy import with_second_look

pytestmark = pytest.mark.filterwarnings("ignore:.*of the ID answers change")
MODEL = trained()
CLEAN, _ = id_images(1, 1)
X = torch.cat([CLEAN[:12], attacked(MODEL, CLEAN[12:24])])


def fitted(model=MODEL, **options):
    return SecondLook(model, purifier="maps", strength=8 / 255, **options).fit(id_batches())


@pytest.fixture(scope="module")
def look():
    return fitted()


def assert_answers(outputs, look, atol=1e-4):
    wanted = look.compare(X)
    assert float((wanted.first - wanted.second).abs().max()) > 1, "nothing would be compared"
    for found, expected in zip(outputs, (wanted.first, wanted.second, wanted.scores), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=atol, check_dtype=False)


def test_the_graph_answers_as_the_detector(look):
    with untouched(MODEL), torch.no_grad():
        graph = with_second_look(look)
        assert_answers(graph(X), look)
        assert_answers(graph(X), look)  # nothing is left over from the first time


def test_it_is_a_copy():
    model = trained()
    look = fitted(model)
    graph = with_second_look(look)
    before = graph(X)
    with torch.no_grad():
        model.fc.weight.zero_()
    look.fit(id_batches(seed=4))
    assert all(torch.equal(one, two) for one, two in zip(before, graph(X), strict=True))


def test_logits_are_picked_and_a_layer_that_runs_twice_is_changed_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 4)

        def forward(self, x):
            return {"logits": self.head(self.conv(self.conv(x).relu()).mean(dim=(2, 3)))}

    torch.manual_seed(0)
    look = fitted(Twice().eval(), logits=lambda output: output["logits"])
    wanted = look.compare(X)
    with torch.no_grad():
        first, second, _ = with_second_look(look)(X)
    torch.testing.assert_close(first, wanted.first)
    torch.testing.assert_close(second, wanted.second)


def test_an_onnx_file_gives_both_answers(look, tmp_path):
    """Written by way of torch.export, with any batch size."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = export_onnx(MODEL, look, tmp_path / "look.onnx", X[:4], thresholds=2.5)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == ["logits", "second_logits", "score"]
    outputs = session.run(None, {"input": X.numpy()})
    assert_answers([torch.as_tensor(each) for each in outputs], look, atol=5e-3)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["purifier"] == '"maps"'
    assert metadata["thresholds"] == '{"score": 2.5}'


def test_what_does_not_go_into_a_graph_is_named(look, tmp_path):
    with pytest.raises(TypeError, match=r"'jpeg' works on images.*purifier='maps'"):
        with_second_look(SecondLook(MODEL, purifier="jpeg", strength=4 / 255).fit(id_batches()))
    with pytest.raises(TypeError, match=r"round .* works on images"):
        with_second_look(SecondLook(MODEL, purifier=torch.round).fit(id_batches()))
    with pytest.raises(TypeError, match="look must be a SecondLook, got ViyogTV"):
        with_second_look(ViyogTV(MODEL))
    with pytest.raises(RequiresFittingException):
        with_second_look(SecondLook(MODEL, purifier="maps"))
    loaded = SecondLook(trained()).load_state_dict(look.state_dict())
    with pytest.raises(ValueError, match="does not know its first layer yet"):
        with_second_look(loaded)
    hooked = fitted(trained())
    hooked.model.stem[0].register_forward_hook(lambda layer, args, output: None)
    with pytest.raises(TypeError, match=r"'stem.0' has forward hooks"):
        with_second_look(hooked)
    pytest.importorskip("onnxscript")
    with pytest.raises(ValueError, match="model of the second look, got another one"):
        export_onnx(trained(), look, tmp_path / "look.onnx", X[:4])
    with pytest.raises(ValueError, match="A second look has its own layer"):
        export_onnx(MODEL, look, tmp_path / "look.onnx", X[:4], layer="stem.0")
