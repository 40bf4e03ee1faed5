"""Detectors as modules: alone and with a model, exported, in ONNX Runtime and compiled."""

import copy
import inspect
import pickle
import threading
from functools import partial

import pytest
import torch
from manners import untouched
from networks import InPlaceStem, Signal, Unused, UsedTwice, Volume, build
from pytorch_ood.api import RequiresFittingException
from sklearn.datasets import load_sample_images
from torch import nn

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV, with_score
from pytorch_ood_viyog.deploy import maps_to_scores
from pytorch_ood_viyog.detectors import ViyogIntent

BATCH = torch.export.Dim("batch")
DETECTORS = {
    "Viyog": Viyog,
    "ViyogTV": ViyogTV,
    "ViyogResidue": ViyogResidue,
    "ViyogIntent": partial(ViyogIntent, residues="filters", eps=(4 / 255,), sample_size=24),
}
TOLERANCE = 1e-4


def crops(count, size, seed=0):
    """Crops of the photographs that scikit-learn ships."""
    generator = torch.Generator().manual_seed(seed)
    photos = [torch.tensor(i).permute(2, 0, 1) / 255 for i in load_sample_images().images]
    pieces = []
    for number in range(count):
        photo = photos[number % 2]
        y, x = (
            int(torch.randint(room - size, (), generator=generator)) for room in photo.shape[1:]
        )
        pieces.append(photo[:, y : y + size, x : x + size])
    return torch.stack(pieces)


@pytest.fixture(params=DETECTORS)
def kind(request):
    return request.param


@pytest.fixture
def fitted(kind, model, images):
    return DETECTORS[kind](model).fit([images])


def first_maps(model, x):
    with torch.no_grad():
        return model.stem.conv(model.stem.norm(x))


# -- eager -----------------------------------------------------------------------------------


def test_as_module_scores_maps(fitted, model, images):
    maps = first_maps(model, images)
    module = maps_to_scores(fitted)
    expected = fitted.predict_features(maps)
    assert torch.equal(module(maps), expected)
    assert not [name for name, _ in module.named_modules() if "model" in name]
    fitted.fit([3 * images])
    assert torch.equal(module(maps), expected)
    assert torch.equal(pickle.loads(pickle.dumps(module))(maps), expected)


def test_with_score_gives_output_and_score(fitted, model, images):
    expected = fitted(images)
    with torch.no_grad():
        logits = model(images)
        with untouched(model):
            deployed = with_score(model, fitted)
            output, scores = deployed(images)
    assert torch.equal(output, logits)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)


def test_the_deployed_model_is_independent(kind, model, images):
    model.train()
    detector = DETECTORS[kind](model).fit([images])
    deployed = with_score(model, detector)
    assert model.training
    assert not deployed.model.training
    _, expected = deployed(images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    torch.testing.assert_close(deployed(images)[1], expected, rtol=0, atol=0)
    for copied in (copy.deepcopy(deployed), pickle.loads(pickle.dumps(deployed))):
        torch.testing.assert_close(copied(images)[1], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (InPlaceStem, (3, 12, 12)),
        (UsedTwice, (3, 12, 12)),
        (Signal, (2, 60)),
        (Volume, (1, 9, 9, 9)),
    ],
)
def test_in_place_activations_second_runs_signals_and_volumes(kind, network, shape):
    model, x = build(network), torch.rand(40, *shape)
    detector = DETECTORS[kind](model).fit([x])
    with torch.no_grad():
        scores = with_score(model, detector)(x)[1]
    torch.testing.assert_close(scores, detector(x), rtol=1e-4, atol=1e-5)


def test_the_users_hooks_act_on_the_model_and_not_on_the_score(fitted, model, images):
    expected = fitted(images)
    model.stem.conv.register_forward_hook(lambda module, args, output: 0 * output)
    with torch.no_grad():
        logits, scores = with_score(model, fitted)(images)
        assert torch.equal(logits, model(images))
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_models_may_look_at_their_first_layer(model, images):
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 12, 3)

        def forward(self, x):
            return self.conv(x.to(self.conv.weight.dtype)) * self.conv.stride[0]

    looking = Looking().eval()
    detector = ViyogTV(looking).fit([images])
    torch.testing.assert_close(with_score(looking, detector)(images)[1], detector(images))


def test_threads_do_not_mix_their_scores(model, images):
    detector = ViyogTV(model).fit([images])
    deployed = with_score(model, detector)
    expected = [detector(images[i : i + 8]) for i in range(0, 64, 8)]
    wrong = []

    def work(i):
        with torch.no_grad():
            for _ in range(30):
                scores = deployed(images[8 * i : 8 * i + 8])[1]
                if not torch.allclose(scores, expected[i], rtol=1e-4):
                    wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_detector_of_maps_needs_the_layer_by_name(model, images):
    detector = ViyogTV(None).fit_features(first_maps(model, images))
    with pytest.raises(ValueError, match="Name it"):
        with_score(model, detector)
    with torch.no_grad():
        _, scores = with_score(model, detector, layer="stem.conv")(images)
    torch.testing.assert_close(scores, detector.predict_features(first_maps(model, images)))


def test_what_with_score_refuses(model, images):
    detector = ViyogTV(model).fit([images])
    with pytest.raises(TypeError, match="model must be"):
        with_score(lambda x: x, detector)
    with pytest.raises(TypeError, match="got str"):
        with_score(model, "ViyogTV")
    with pytest.raises(RequiresFittingException):
        with_score(model, ViyogTV(model))
    with pytest.raises(RequiresFittingException):
        maps_to_scores(ViyogTV(model))
    with pytest.raises(ValueError, match=r"12 channels.*'body\.2' gives 4"):
        with_score(model, detector, layer="body.2")
    with pytest.raises(ValueError, match="does not contain a layer named 'trunk'"):
        with_score(model, detector, layer="trunk")


def test_a_layer_that_does_not_run_is_an_error():
    detector = Viyog(None).fit_features(torch.rand(5, 2, 4, 4))
    deployed = with_score(build(Unused), detector, layer="spare")
    with pytest.raises(RuntimeError, match="did not run"):
        deployed(torch.rand(2, 3, 8, 8))


# -- exported --------------------------------------------------------------------------------


def onnx_runtime(module, example, folder):
    """The module in ONNX Runtime, exported with a dynamic batch size: function of one array."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: BATCH},),
        optimize=False,  # a third of the time; ONNX Runtime does it again
    )
    program.save(folder / "model.onnx", external_data=True)
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda x: [torch.as_tensor(y) for y in session.run(None, {name: x.numpy()})]


def test_torch_export_with_any_batch_size(fitted, model, images):
    """Of maps alone the export is asked below, in ONNX Runtime."""
    scored, expected = with_score(model, fitted), fitted(images)
    program = torch.export.export(scored, (images[:5],), dynamic_shapes=({0: BATCH},)).module()
    for size in (1, 3, 64):
        with torch.no_grad():
            _, scores = program(images[:size])
        torch.testing.assert_close(scores, expected[:size], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strict", [False, True])
def test_the_scored_model_has_the_signature_of_the_model(strict, images):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 12, 3)

        def forward(self, pixels, gain=1.0, *, shift: torch.Tensor):
            return self.conv(pixels) * gain + shift

    scaled, shift = Scaled().eval(), torch.ones(1)
    detector = ViyogTV(scaled.conv).fit([images])
    deployed = with_score(scaled, detector, layer="conv")
    for module in (deployed, copy.deepcopy(deployed)):
        signature = inspect.signature(module.forward)
        assert list(signature.parameters) == ["pixels", "gain", "shift"]
        program = torch.export.export(
            module,
            (images[:4],),
            {"shift": shift},
            dynamic_shapes={"pixels": {0: BATCH}, "shift": None},
            strict=strict,
        )
        output, scores = program.module()(images, shift=shift)
        torch.testing.assert_close(output, scaled(images, shift=shift))
        torch.testing.assert_close(scores, detector(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["Viyog", "ViyogTV", "ViyogIntent"])
def test_maps_to_scores_in_onnx_runtime(kind, tmp_path):
    """ViyogIntent reads as ViyogResidue does, whose score is asked of whole models below."""
    model = nn.Sequential(nn.Conv2d(3, 24, 3)).eval()
    fit, x = crops(128, 12), crops(20, 12, seed=1)
    x[10:] += 0.02 * torch.randn(10, 3, 12, 12).sign()
    detector = DETECTORS[kind](model).fit([fit])
    with torch.no_grad():
        maps = model(x)
    exported = onnx_runtime(maps_to_scores(detector), maps[:4], tmp_path)
    [scores] = exported(maps)
    expected = detector.predict_features(maps)
    torch.testing.assert_close(scores, expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert torch.equal(scores > 1, expected > 1)
    torch.testing.assert_close(exported(maps[:1])[0], expected[:1], rtol=TOLERANCE, atol=TOLERANCE)


def short_resnet(models):
    model = models.resnet18(num_classes=10)
    model.layer2[1] = model.layer3 = model.layer4 = nn.Identity()
    model.fc = nn.Linear(128, 10)
    return model


def short_vit(models):
    model = models.VisionTransformer(224, 16, 1, 3, 192, 384, num_classes=10)
    nn.init.normal_(model.heads.head.weight)  # zeros would be equal in all runtimes
    return model


# all blocks, one like the other, take a minute to export
@pytest.mark.parametrize(("build", "size"), [(short_resnet, 32), (short_vit, 224)])
def test_architectures_in_onnx_runtime(build, size, tmp_path):
    model = build(pytest.importorskip("torchvision.models")).eval()
    fit, x = crops(64, size), crops(6, size, seed=1)
    x[3:] += 0.02 * torch.randn(3, 3, size, size).sign()
    detector = ViyogResidue(model).fit(fit.split(16))
    logits, scores = onnx_runtime(with_score(model, detector), x[:2], tmp_path)(x)
    expected = detector(x)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scores, expected, rtol=TOLERANCE, atol=TOLERANCE)
    threshold = expected.sort().values[2:4].mean()
    assert torch.equal(scores > threshold, expected > threshold)


def test_torch_compile(kind, fitted, model, images):
    """ViyogIntent reads as ViyogResidue does: one of them is compiled of maps, one of inputs."""
    if kind != "ViyogIntent":
        maps = first_maps(model, images)
        expected = fitted.predict_features(maps)
        compiled = torch.compile(maps_to_scores(fitted), backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(maps), expected, rtol=1e-4, atol=1e-4)
    if kind != "ViyogResidue":
        scored = with_score(model, fitted)
        with torch.no_grad():
            compiled = torch.compile(scored, backend="aot_eager", fullgraph=True)
            logits, scores = compiled(images)
            torch.testing.assert_close(logits, model(images))
        torch.testing.assert_close(scores, fitted(images), rtol=1e-4, atol=1e-4)
