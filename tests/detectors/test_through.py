"""A way between attacker and model, the kind of images as a fact of a fit, and flat borders."""

import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

from pytorch_ood_viyog import (
    SecondLook,
    SharedForward,
    Viyog,
    ViyogIntent,
    ViyogResidue,
    ViyogTV,
    WayWarning,
)
from pytorch_ood_viyog.detectors import ResidueView
from pytorch_ood_viyog.images import Way, apply_ways

CODEC = "JPEG 90 4:2:0"


def natural(count, size=48, seed=0):
    """Images with contrast of their own at several scales, in 8 bit."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(count, 3, size, size)
    for side, weight in ((4, 0.5), (12, 0.3), (30, 0.2)):
        coarse = torch.rand(count, 3, side, side, generator=generator)
        x += weight * functional.interpolate(coarse, (size, size), mode="bicubic")
    return (x.clamp(0, 1) * 255).round() / 255


def attacked(x, levels=8, seed=3):
    signs = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).sign()
    return (x + levels / 255 * signs).clamp(0, 1)


def network(stride=2):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, stride, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 5)).eval()


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def through(model):
    return ViyogResidue(model, through=CODEC).fit([natural(96)])


@pytest.fixture(scope="module")
def plain(model):
    return ViyogResidue(model).fit([natural(96)])


def recall(detector, clean, adv):
    return float((detector(adv) > detector(clean).quantile(0.95)).double().mean())


# -- through --------------------------------------------------------------------------------


def test_attacks_before_the_codec_are_found_only_with_through(model, through):
    x = natural(60, seed=1)
    clean, adv = apply_ways(CODEC, x), apply_ways(CODEC, attacked(x))
    behind = ViyogResidue(model).fit([apply_ways(CODEC, natural(96))])
    assert recall(behind, clean, adv) < 0.3
    assert recall(through, clean, adv) > 0.9
    assert recall(ResidueView(behind), clean, adv) < 0.3
    assert recall(ResidueView(through), clean, adv) > 0.9


def test_a_way_that_changes_nothing_gives_nearly_the_same_detector(model, plain):
    same = ViyogResidue(model, through="rounding").fit([natural(96)])
    x = torch.cat([natural(30, seed=1), attacked(natural(30, seed=1), 4)])
    assert float(torch.stack([same(x), plain(x)]).corrcoef()[0, 1]) > 0.99
    assert same.least_adv == pytest.approx(plain.least_adv, rel=0.5)


def test_a_function_is_the_way_that_it_is(model, through):
    function = ViyogResidue(model, through=Way(CODEC).__call__).fit([natural(96)])
    x = natural(8, seed=1)
    assert torch.equal(function(x), through(x))
    with pytest.raises(TypeError, match="whose through is a function has no state"):
        function.state_dict()


@pytest.mark.parametrize("std", [1 / 255, 0.225])
def test_normalised_inputs_take_the_same_way(model, std):
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) * (std > 0.1)
    x = natural(60, seed=1)
    clean, adv = apply_ways(CODEC, x), apply_ways(CODEC, attacked(x))
    detector = ViyogResidue(model, through=CODEC).fit([(natural(96) - mean) / std])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the levels are known behind the normalisation
        assert recall(detector, (clean - mean) / std, (adv - mean) / std) > 0.9


def test_a_saved_fit_knows_its_way(model, through):
    loaded = ViyogResidue(model).load_state_dict(through.state_dict())
    assert loaded.through == CODEC
    x = natural(8, seed=1)
    assert torch.equal(loaded(x), through(x))
    assert torch.equal(pickle.loads(pickle.dumps(through))(x), through(x))


def test_a_pipeline_fits_and_scores_the_same(model, through):
    shared = SharedForward(model, {"residue": ViyogResidue(model, through=CODEC)})
    shared.fit([(natural(96), torch.zeros(96))])
    x = natural(8, seed=1)
    torch.testing.assert_close(shared.predict(x)["residue"], through(x), check_dtype=False)


def test_intent_is_learnt_behind_the_way(model):
    x, options = natural(32, 24), {"residues": "filters", "eps": (8 / 255,)}
    detector = ViyogIntent(model, through=CODEC, **options).fit([x])
    plain = ViyogIntent(model, **options).fit([x])
    sent = apply_ways(CODEC, attacked(natural(30, 24, seed=1)))
    assert bool(torch.isfinite(detector(sent)).all())
    assert not torch.equal(detector(sent), plain(sent))


def test_what_cannot_go_a_way_is_refused(model):
    conv = nn.Conv2d(3, 8, 3)
    maps = conv(natural(40)).detach()
    with pytest.raises(
        ValueError, match=r"through needs the images before the way, .*use fit\(\)"
    ):
        ViyogResidue(None, layer=conv, through=CODEC).fit_features(maps)
    signals = nn.Sequential(nn.Conv1d(3, 8, 5))
    with pytest.raises(ValueError, match=r"sees images of 1 or 3 channels, .*\(40, 3, 64\)"):
        ViyogResidue(signals, through=CODEC).fit([torch.rand(40, 3, 64)])
    with pytest.raises(ValueError, match="Steps of a way are"):
        ViyogResidue(model, through="fog 1")
    with pytest.raises(ValueError, match="must give as many images of the same size"):
        ViyogResidue(model, through=lambda x: x[..., ::2]).fit([natural(40)])


# -- the kind of images -----------------------------------------------------------------------


@pytest.fixture(scope="module", params=[ViyogResidue, Viyog, ViyogTV, SecondLook])
def any_plain(model, request):
    """A detector of each kind whose fit warned of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return request.param(model).fit([natural(48), natural(48, seed=5)])


def fresh(detector):
    """The same fit, whose user was not warned yet."""
    return type(detector)(detector.model).load_state_dict(detector.state_dict())


def test_other_images_than_at_fit_are_said_once(any_plain):
    detector = fresh(any_plain)
    x = natural(8, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector(x)
    for other, message in (
        (x * 0.99 + 0.003, "between the 8-bit levels that images had at fit"),
        (x * 2 - 1, "values reach from"),
        (natural(4, 64), r"the size is \(64, 64\), at fit it was \(48, 48\)"),
    ):
        detector = fresh(any_plain)
        with pytest.warns(WayWarning, match=message):
            detector(other)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            detector(other)  # once


def test_fits_of_several_sizes_or_kinds_expect_no_single_one(model):
    def floats(size):
        return natural(8, size) * 0.98 + 0.02 * torch.rand(8, 3, size, size)

    detector = Viyog(model).fit([natural(8), floats(64)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector(floats(56))


def test_a_loaded_fit_and_a_pipeline_warn_too(model, plain):
    loaded = ViyogResidue(model).load_state_dict(plain.state_dict())
    with pytest.warns(WayWarning):
        loaded(natural(8, seed=1) * 255)
    for kind in (ViyogResidue, ViyogTV):
        shared = SharedForward(model, {"detector": kind(model).fit([natural(96)])})
        with pytest.warns(WayWarning, match=kind.__name__):
            shared.predict(natural(8, seed=1) * 255)


def test_floats_at_fit_and_bytes_now(model):
    floats = natural(96) * 0.98 + 0.02 * torch.rand(96, 3, 48, 48)
    detector = ViyogResidue(model).fit([floats])
    with pytest.warns(WayWarning, match="8-bit levels, at fit they had none"):
        detector(natural(8, seed=1))


@pytest.mark.parametrize("kind", [ViyogResidue, Viyog])
def test_of_maps_alone_nothing_is_known(kind):
    conv = nn.Conv2d(3, 8, 3)
    detector = kind(None, layer=conv).fit_features(conv(natural(70)).detach())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.predict_features(conv(natural(4) * 255).detach())


# -- flat borders -------------------------------------------------------------------------------


def boxed(x, share, level=114 / 255):
    """Bars above and below, the rows between as they are."""
    out = torch.full_like(x, level)
    bar = round(x.shape[2] * (1 - share) / 2)
    out[:, :, bar : x.shape[2] - bar] = x[:, :, bar : x.shape[2] - bar]
    return out


@pytest.fixture(scope="module")
def wide():
    return ViyogResidue(network(1)).fit([natural(128, 64)])


def test_bars_are_left_out(wide):
    x = natural(60, 64, seed=1)
    alarm = ResidueView(wide)
    letterbox = boxed(x, 0.6)
    threshold = alarm(x).quantile(0.95)
    assert float((alarm(letterbox) > threshold).double().mean()) <= 0.12
    assert recall(alarm, x, attacked(letterbox)) > 0.95
    torch.testing.assert_close(wide.flat_share(x), torch.zeros(60).double())
    share = wide.flat_share(letterbox)
    assert bool(((share > 0.25) & (share < 0.45)).all())


def test_maps_and_inputs_tell_the_same_windows(wide):
    x = torch.cat([boxed(natural(8, 64, seed=1), 0.6), natural(8, 64, seed=2)])
    maps = wide.model[0](x).detach()
    torch.testing.assert_close(wide.predict_features(maps), wide(x), rtol=1e-2, atol=1e-2)


def test_constant_images_are_ood_and_no_alarm(wide):
    alarm = ResidueView(wide)
    shades = torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    flat = (shades * 255).round().div(255).expand(8, 3, 64, 64)
    line = flat.clone()
    line[:, :, 30:32] = natural(8, 64)[:, :, 30:32]
    for x in (flat, line):
        assert bool((alarm(x) <= 0).all())
        assert bool((wide(x) < wide(natural(60, 64, seed=1)).min()).all())
        assert bool((wide.log_likelihoods(x).argmax(dim=1) == 1).all())


def test_images_that_the_model_normalises_one_by_one_are_of_one_kind():
    own = nn.Sequential(nn.InstanceNorm2d(3), *network())
    for batch in (1, 24):
        detector = ViyogResidue(own).fit([*natural(48).split(batch)], progress=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error", WayWarning)
            detector(natural(16, seed=1))
