"""Well-known architectures work with no argument but the model."""

import pytest
import torch
import torchvision
from manners import untouched
from our_detectors import DEFAULT_TOLERANCE, DETECTORS, TOLERANCES
from pytorch_ood.detector import KNN, EnergyBased

from pytorch_ood_viyog import SharedForward

# names of the first convolution and of the head, and options
ARCHITECTURES = {
    "resnet18": ("conv1", "fc", {}),
    "densenet121": ("features.conv0", "classifier", {}),
    "mobilenet_v3_small": ("features.0.0", "classifier.3", {}),
    "efficientnet_b0": ("features.0.0", "classifier.1", {}),
    "convnext_tiny": ("features.0.0", "classifier.2", {}),
    "swin_t": ("features.0.0", "head", {}),
    "vit_b_16": ("conv_proj", "heads.head", {"image_size": 32}),
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request):
    *names, options = ARCHITECTURES[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.get_model(request.param, num_classes=3, **options)
        return model, *names, torch.rand(4, 3, 32, 32)


def test_the_first_convolution_is_read_once_and_nothing_after_it(architecture):
    model, layer, _, x = architecture
    with torch.no_grad():
        maps = model.get_submodule(layer)(x)
    # fewer patches than a patch has values would leave some directions empty
    many = torch.rand(256, 3, 32, 32)
    ran, calls = [], []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in model.named_modules()
        if not name.startswith(layer)
    ]
    for name, make in DETECTORS.items():
        detector = make(model)
        with untouched(model):  # in training mode, as torchvision returns it
            detector.fit(many.split(128))
            ran.clear()  # the whole model ran once, to see what its first layer takes
            scores = detector(x)
        assert detector.layer_name == layer
        assert ran == []  # no module ran to its end
        rtol, atol = TOLERANCES.get(name, DEFAULT_TOLERANCE)
        own = detector.predict_features(maps)
        torch.testing.assert_close(scores, own, rtol=rtol, atol=atol)
        assert scores.unique().numel() == 4
        read = model.get_submodule(layer)
        forward = read.forward
        read.forward = lambda x, forward=forward: calls.append(1) or forward(x)
        detector(x)
        del read.forward
        assert calls.pop() == 1
        assert not calls
    for handle in handles:
        handle.remove()


def test_the_head_is_found(architecture):
    model, _, head, x = architecture
    detectors = {"energy": EnergyBased(None), "knn": KNN(None, k=2)}
    detectors["tv"] = DETECTORS["ViyogTV"](None)
    pipeline = SharedForward(model, detectors)
    with untouched(model):
        pipeline.fit([(x, torch.tensor([0, 1, 2, 0]))])
        scores = pipeline.predict(x[:2])
    inputs = []
    training = model.training
    handle = (
        model.eval()
        .get_submodule(head)
        .register_forward_pre_hook(lambda m, i: inputs.append(i[0]))
    )
    with torch.no_grad():
        energy = -torch.cat([model(x[:2]), model(x[2:])]).logsumexp(dim=1)
    handle.remove()
    model.train(training)
    features = torch.nn.functional.normalize(torch.cat(inputs), dim=1)
    second = torch.cdist(features[:2], features).sort(dim=1).values[:, 1]
    torch.testing.assert_close(scores["energy"], energy[:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores["knn"].float(), second, rtol=1e-3, atol=1e-4)
    own = DETECTORS["ViyogTV"](model).fit([x]).predict(x[:2])
    torch.testing.assert_close(scores["tv"], own)
