"""What predict leaves out changes no score: filters, positions, sorting, checks, precision."""

import functools

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.layer.checks import check_finite
from pytorch_ood_viyog.layer.layer_call import LayerCall
from pytorch_ood_viyog.layer.linear.plain_convolution import plain_convolution

DETECTORS = {"Viyog": Viyog, "ViyogTV": ViyogTV, "ViyogResidue": ViyogResidue}


@pytest.fixture(params=DETECTORS)
def kind(request):
    return DETECTORS[request.param]


class Scaled(nn.Conv2d):
    """Computes in its own way."""

    def forward(self, x):
        return 2 * super().forward(x)


def patched():
    conv = nn.Conv2d(3, 24, 3)
    conv.forward = lambda x: 3 * nn.Conv2d.forward(conv, x)
    return conv


STEMS = {
    "plain": lambda: nn.Conv2d(3, 24, 3),
    "strided": lambda: nn.Conv2d(3, 24, 5, stride=2, padding=2, bias=False),
    "dilated": lambda: nn.Conv2d(3, 24, 3, dilation=2, padding="same"),
    "valid": lambda: nn.Conv2d(3, 24, (3, 5), padding="valid"),
    "reflecting": lambda: nn.Conv2d(3, 24, 3, padding=1, padding_mode="reflect"),
    "groups": lambda: nn.Conv2d(3, 24, 3, groups=3),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 24, 3)),
    "padding everywhere": lambda: nn.Conv2d(3, 24, 13, padding=6),
}
OWN_WAY = {"subclass": lambda: Scaled(3, 24, 3), "patched": patched}


@pytest.mark.parametrize("stem", STEMS)
def test_scores_are_those_of_the_whole_maps(kind, stem):
    torch.manual_seed(3)
    model = nn.Sequential(STEMS[stem](), nn.ReLU(inplace=True)).eval()
    x = torch.rand(40, 3, 14, 14) ** 3
    detector = kind(model).fit([x])
    with torch.no_grad():
        maps = model[0](x)
    expected = detector.predict_features(maps)
    torch.testing.assert_close(detector(x), expected, rtol=2e-3, atol=2e-3)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(detector(last), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("stem", OWN_WAY)
@pytest.mark.parametrize("name", ["Viyog", "ViyogTV"])
def test_layers_that_compute_in_their_own_way_are_run(stem, name):
    model, x = nn.Sequential(OWN_WAY[stem]()).eval(), torch.rand(30, 3, 12, 12)
    detector = DETECTORS[name](model).fit([x])
    with torch.no_grad():
        expected = detector.predict_features(model(x))
    torch.testing.assert_close(detector(x), expected)
    assert plain_convolution(LayerCall(model[0], x)) is None


@pytest.mark.parametrize(("cached_bytes", "largest"), [(1, 1), (3 * 24 * 12 * 12 * 4, 4)])
def test_viyog_computes_the_maps_of_few_samples_at_once(monkeypatch, cached_bytes, largest):
    monkeypatch.setattr("pytorch_ood_viyog.detectors.viyog._CACHED_BYTES", cached_bytes)
    model, x, batches = nn.Sequential(nn.Conv2d(3, 24, 3)).eval(), torch.rand(11, 3, 14, 14), []
    detector = Viyog(model).fit([x])
    with torch.no_grad():
        expected = detector.predict_features(model(x))

    def infinity_norm(maps):
        batches.append(len(maps))
        return maps.abs().flatten(1).amax(dim=1).double()

    monkeypatch.setattr("pytorch_ood_viyog.detectors.viyog.infinity_norm", infinity_norm)
    torch.testing.assert_close(detector(x), expected)
    assert sum(batches) == 11
    assert max(batches) == largest
    assert detector(x[:1]).shape == (1,)


def test_input_that_the_layer_refuses_is_refused(kind, model, images):
    detector = kind(model).fit([images])
    for bad in (images.double(), images[:, :2]):
        with pytest.raises(RuntimeError):
            detector(bad)


def test_only_the_filters_that_are_read_are_computed():
    model = nn.Sequential(nn.Conv2d(3, 64, 7, stride=2, padding=3)).eval()
    x = torch.rand(4, 3, 96, 96)
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        model(x)
    detector = ViyogTV(model).fit([torch.rand(16, 3, 96, 96)])
    with FlopCounterMode(display=False) as read:
        detector(x)
    assert len(detector.dormant_channels) == 6
    assert read.get_total_flops() == pytest.approx(whole.get_total_flops() * 6 / 64)


def test_residue_reads_few_positions_of_a_large_map():
    model = nn.Sequential(nn.Conv2d(3, 64, 7, stride=2, padding=3)).eval()
    x = torch.rand(2, 3, 224, 224)
    with FlopCounterMode(display=False) as whole, torch.no_grad():
        model(x)
    detector = ViyogResidue(model).fit([torch.rand(16, 3, 224, 224)])
    with FlopCounterMode(display=False) as read:
        detector(x)
    assert read.get_total_flops() < 0.3 * whole.get_total_flops()


def test_values_whose_sum_overflows_are_finite():
    large = torch.full((4, 8), 3e38)
    check_finite("Input", large)
    large[2, 3] = -torch.inf
    with pytest.raises(ValueError, match="samples 2"):
        check_finite("Input", large)
    mixed = torch.tensor([[torch.inf], [-torch.inf], [0.0]])
    with pytest.raises(ValueError, match="samples 0, 1"):
        check_finite("Input", mixed)
    half = torch.full((4, 4), 6e4, dtype=torch.float16)
    check_finite("Input", half)


# -- precision -------------------------------------------------------------------------------


def photos(count, size=32, seed=0):
    """Crops of the photographs that scikit-learn ships."""
    generator = torch.Generator().manual_seed(seed)
    images = [torch.tensor(i).permute(2, 0, 1) / 255 for i in load_sample_images().images]
    pieces = []
    for number in range(count):
        image = images[number % 2]
        y, x = (int(torch.randint(n - size, (), generator=generator)) for n in image.shape[1:])
        pieces.append(image[:, y : y + size, x : x + size])
    return torch.stack(pieces)


@functools.cache
def seen_and_new():
    """Photographs to fit on, and others of which a third have a residue."""
    fit, new = photos(80), photos(60, seed=1)
    signs = torch.randint(0, 2, new[40:].shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return fit, torch.cat([new[:40], (new[40:] + 4 / 255 * signs).clamp(0, 1)])


def scores_in(dtype, kind):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 24, 7, stride=2, padding=3, bias=False), nn.ReLU()).eval()
    fit, new = seen_and_new()
    return kind(model.to(dtype)).fit(fit.to(dtype).split(32))(new.to(dtype))


scores_in_float32 = functools.cache(functools.partial(scores_in, torch.float32))


def ranks_alike(one, other):
    ranks = torch.stack([scores.double().argsort().argsort().double() for scores in (one, other)])
    return float(torch.corrcoef(ranks)[0, 1]) >= 0.99


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_ranks_as_float32(kind, dtype):
    with torch.autocast("cpu", dtype=dtype):
        assert ranks_alike(scores_in(torch.float32, kind), scores_in_float32(kind))
    assert ranks_alike(scores_in(dtype, kind), scores_in_float32(kind))
