"""Well-known architectures work with no argument but the model."""

import pytest
import torch
import torchvision
from manners import untouched

# name of the first convolution, and the size of the images: small where the architecture allows
ARCHITECTURES = {
    "resnet18": ("conv1", 32),
    "densenet121": ("features.conv0", 32),
    "mobilenet_v3_small": ("features.0.0", 32),
    "efficientnet_b0": ("features.0.0", 32),
    "convnext_tiny": ("features.0.0", 32),
    "swin_t": ("features.0.0", 32),
    "vit_b_16": ("conv_proj", 224),
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return request.param, torchvision.models.get_model(request.param, weights=None)


def test_torchvision(make, close, architecture):
    name, model = architecture
    layer, size = ARCHITECTURES[name]
    x = torch.rand(4, 3, size, size)
    ran = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in model.named_modules()
        if not name.startswith(layer)
    ]
    detector = make(model)
    with untouched(model):  # in training mode, as torchvision returns it
        detector.fit([x[:2], x[2:]])
        ran.clear()  # the whole model ran once, to see what its first layer takes
        scores = detector(x)
    for handle in handles:
        handle.remove()
    assert detector.layer_name == layer
    assert ran == []  # no module ran to its end: nothing comes before the first convolution
    with torch.no_grad():
        maps = model.get_submodule(layer)(x)
    close(scores, detector.predict_features(maps))
    assert scores.unique().numel() == 4


def test_the_first_convolution_runs_once(make, architecture):
    name, model = architecture
    layer, size = ARCHITECTURES[name]
    detector = make(model).fit([torch.rand(4, 3, size, size)])
    calls = []
    forward = model.get_submodule(layer).forward
    model.get_submodule(layer).forward = lambda x: calls.append(1) or forward(x)
    try:
        detector(torch.rand(2, 3, size, size))
    finally:
        del model.get_submodule(layer).forward
    assert calls == [1]
