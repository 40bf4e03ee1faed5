"""ViyogResidue: what it promises about scores, levels, invariances and bad arguments."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from pytorch_ood_viyog import ViyogResidue, viyog_metrics


def natural(count, *shape, seed=0):
    """Smooth random images with some contrast of their own, rounded to 8 bit."""
    generator = torch.Generator().manual_seed(seed)
    axes = len(shape) - 1
    coarse = [max(2, size // 10) for size in shape[1:]]
    x = torch.rand(count, shape[0], *coarse, generator=generator)
    mode = {1: "linear", 2: "bicubic", 3: "trilinear"}[axes]
    x = functional.interpolate(x, shape[1:], mode=mode, align_corners=False)
    noise = torch.randn(x.shape, generator=generator) * 0.6 / 255
    return ((0.1 + 0.8 * x.clamp(0, 1) + noise).clamp(0, 1) * 255).round() / 255


def with_residue(x, strength, seed=1):
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
    return ((x + strength * signs).clamp(0, 1) * 255).round() / 255


def tensors(detector):
    return detector.state_dict()["tensors"]


def network(conv):
    torch.manual_seed(0)
    conv.reset_parameters()
    return nn.Sequential(conv, nn.ReLU(inplace=True))


STEMS = {
    "3x3": (nn.Conv2d(3, 32, 3, padding=1), (3, 32, 32)),
    "7x7 stride 2": (nn.Conv2d(3, 64, 7, 2, 3), (3, 48, 48)),
    "8x8 patches": (nn.Conv2d(3, 48, 8, 8), (3, 64, 64)),
    "16x16 patches": (nn.Conv2d(3, 64, 16, 16), (3, 96, 96)),
    "grouped": (nn.Conv2d(4, 16, 3, groups=2, padding=1), (4, 32, 32)),
    "dilated": (nn.Conv2d(3, 32, 3, dilation=2), (3, 32, 32)),
    "one channel": (nn.Conv2d(1, 16, 5), (1, 28, 28)),
    "rank-deficient": (nn.Conv2d(1, 64, 3), (1, 28, 28)),
    "1-D": (nn.Conv1d(1, 16, 9, padding=4), (1, 256)),
    "3-D": (nn.Conv3d(1, 12, 3), (1, 10, 14, 14)),
}


@pytest.fixture(scope="module")
def images():
    return natural(160, 3, 24, 24)


@pytest.fixture(scope="module")
def fitted(images):
    return ViyogResidue(network(nn.Conv2d(3, 32, 3, padding=1))).fit([images[:96]])


@pytest.mark.parametrize(("conv", "shape"), STEMS.values(), ids=STEMS)
def test_any_stem_separates_residues_from_id_and_noise(conv, shape):
    x = natural(120, *shape)
    detector = ViyogResidue(network(conv)).fit([x[:90]])
    clean, attacked = detector(x[90:]), detector(with_residue(x[90:], 8 / 255))
    noise = detector(torch.rand(30, *shape, generator=torch.Generator().manual_seed(2)))
    assert viyog_metrics(clean, attacked)["AUROC"] > 0.85  # 0.88 at 36 patches an image, else 1
    assert viyog_metrics(noise, attacked)["AUROC"] > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (2, 2), (3, 3), (4, 40)])
def test_maps_of_few_positions_give_finite_scores(shape):
    conv = nn.Conv2d(3, 8, 3)
    maps = conv(natural(40, 3, shape[0] + 2, shape[1] + 2)).detach()
    scores = ViyogResidue(None, layer=conv).fit_features(maps).predict_features(maps)
    assert bool(torch.isfinite(scores).all())


def test_flat_images_give_finite_scores(fitted):
    flat = torch.rand(4, 3, 1, 1).expand(4, 3, 24, 24)
    assert bool(torch.isfinite(fitted(flat)).all())
    only_flat = ViyogResidue(fitted.model).fit([flat])
    assert bool(torch.isfinite(only_flat(flat)).all())


def test_standardised_on_id():
    x = natural(712, 3, 24, 24)
    # many samples a feature: with few, the halves that set the scale know less than the whole fit
    conv = nn.Conv2d(3, 32, 3, padding=1)
    detector = ViyogResidue(network(conv), directions=4, sample_size=512).fit([x[:512]])
    fresh = detector(x[512:])
    assert abs(float(fresh.mean())) < 0.5
    assert 0.5 < float(fresh.std()) < 2


@pytest.mark.parametrize("level", [3, 5, 8])
def test_noise_floor_reads_the_strength_of_the_residue(fitted, images, level):
    clean = fitted.noise_floor(images[96:]).median() * 255
    read = fitted.noise_floor(with_residue(images[96:], level / 255)).median() * 255
    assert float(clean) < 0.8
    assert float(read) == pytest.approx(level / float(tensors(fitted)["scale"].mean()), rel=0.15)


def test_log_likelihoods_order_and_agreement(fitted, images):
    x = torch.cat(
        [images[96:104], with_residue(images[96:104], 4 / 255), torch.rand(8, 3, 24, 24)]
    )
    likelihoods = fitted.log_likelihoods(x)
    assert likelihoods.shape == (24, 3)
    clean, attacked, noise = likelihoods.reshape(3, 8, 3).median(dim=1).values
    assert int(clean.argmax()) == 0
    assert attacked[2] > attacked[0]  # ADV explains it better than ID
    assert int(noise.argmax()) == 1
    odds = likelihoods[:, 2] - torch.logaddexp(likelihoods[:, 0], likelihoods[:, 1])
    assert torch.equal(odds.argsort(), fitted(x).argsort())


class Normalised(nn.Module):
    """A model that normalises inside, with a kernel that undoes it: the same first-layer maps."""

    def __init__(self, conv, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.conv = nn.Conv2d(3, conv.out_channels, 3)
        with torch.no_grad():
            self.conv.weight.copy_(conv.weight * self.std)
            self.conv.bias.copy_(conv.bias + (conv.weight * self.mean).sum(dim=(1, 2, 3)))

    def forward(self, x):
        return self.conv((x - self.mean) / self.std)


def test_normalisation_may_sit_inside_or_outside(images):
    conv = nn.Conv2d(3, 32, 3)
    outside = ViyogResidue(nn.Sequential(conv)).fit([images[:96]])
    inside = ViyogResidue(Normalised(conv, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))).fit([images[:96]])
    x = with_residue(images[96:], 2 / 255)
    torch.testing.assert_close(inside.noise_floor(x), outside.noise_floor(x), rtol=2e-2, atol=1e-4)
    both = torch.stack([inside(x), outside(x)])
    assert float(both.corrcoef()[0, 1]) > 0.95


def test_scale_of_the_input_does_not_matter(images):
    conv = nn.Conv2d(3, 32, 3, bias=False)
    one = ViyogResidue(nn.Sequential(conv)).fit([images[:96]])
    large = ViyogResidue(nn.Sequential(conv)).fit([255 * images[:96]])
    torch.testing.assert_close(large(255 * images[96:]), one(images[96:]), rtol=1e-2, atol=5e-2)
    torch.testing.assert_close(
        tensors(large)["scale"], 255 * tensors(one)["scale"], rtol=1e-6, atol=0
    )


def test_more_images_than_the_sample_holds(images):
    model = network(nn.Conv2d(3, 16, 3))
    one = ViyogResidue(model, sample_size=64).fit([images])
    other = ViyogResidue(model, sample_size=64).fit(list(images.flip(0).split(37)))
    assert len(one._statistics["sample"]) == 64
    torch.testing.assert_close(one(images), other(images), rtol=1e-2, atol=1e-2)


def test_deterministic_and_without_the_global_generator(fitted, images):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = ViyogResidue(fitted.model).fit([images[:96]])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again(images), fitted(images))
    other = ViyogResidue(fitted.model, seed=1).fit([images[:96]])
    assert not torch.equal(other(images), fitted(images))


def test_the_range_is_reconstructed_from_maps_of_full_rank(images):
    conv = nn.Conv2d(3, 32, 3)
    detector = ViyogResidue(None, layer=conv).fit_features(conv(images[:96]).detach())
    expected = images[:96].amax(dim=(0, 2, 3)) - images[:96].amin(dim=(0, 2, 3))
    torch.testing.assert_close(tensors(detector)["scale"].float(), expected, rtol=0.05, atol=0)


@pytest.mark.parametrize("x", [1e-30, 1e30])
def test_extreme_inputs_after_a_normal_fit(fitted, images, x):
    scores = fitted(x * images[:4])
    assert bool(torch.isfinite(scores).all())


def test_without_weights_a_clear_error(images):
    maps = torch.randn(10, 8, 6, 6)
    with pytest.raises(RuntimeError, match="layer that made"):
        ViyogResidue(None).fit_features(maps)
    with pytest.raises(RuntimeError, match="Linear"):
        ViyogResidue(None, layer=nn.Linear(3, 3)).fit_features(maps)


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("eps", (), ValueError, "eps"),
        ("eps", (2 / 255, 1 / 255), ValueError, "ascending"),
        ("eps", (0.0,), ValueError, "eps"),
        ("eps", ("a",), TypeError, "eps"),
        ("input_range", 0.0, ValueError, "input_range"),
        ("input_range", (1.0, -1.0, 1.0), ValueError, "input_range"),
        ("directions", 0, ValueError, "directions"),
        ("directions", 1.5, TypeError, "directions"),
        ("kappa", 0.5, ValueError, "kappa"),
        ("shrinkage", 2.0, ValueError, "shrinkage"),
        ("sample_size", 1, ValueError, "sample_size"),
        ("seed", -1, ValueError, "seed"),
    ],
)
def test_bad_arguments(argument, value, error, message):
    with pytest.raises(error, match=message):
        ViyogResidue(None, **{argument: value})


def test_a_range_for_the_wrong_number_of_channels(images):
    detector = ViyogResidue(network(nn.Conv2d(3, 8, 3)), input_range=(1.0, 1.0))
    with pytest.raises(ValueError, match="3 channels"):
        detector.fit([images[:20]])


@pytest.mark.parametrize("colour", [0.0, 0.5])
@pytest.mark.parametrize("known", [None, 1.0])
def test_id_images_of_one_colour_are_refused(colour, known, images):
    detector = ViyogResidue(network(nn.Conv2d(3, 32, 3)), input_range=known)
    before = detector.fit([images[:96]])(images)
    plain = torch.full((20, 3, 24, 24), colour)
    with pytest.raises(ValueError, match="All ID inputs are of one colour"):
        detector.fit([plain])
    assert torch.equal(detector(images), before)
    black = detector.model[0](torch.zeros_like(plain)).detach()  # others differ by rounding
    with pytest.raises(ValueError, match="All ID inputs are of one colour"):
        detector.fit_features(black)
    detector.fit([torch.cat([plain, images[:1]])])  # others may be a choice of the user's


def test_a_named_layer_is_warned_of_once_a_fit(images):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 16, 3))
    detector = ViyogResidue(model, layer="2")
    for _ in range(2):
        with pytest.warns(UserWarning, match="Its scores may mean little") as told:
            detector.fit(images[:96].split(32))
        assert sum("may mean little" in str(each.message) for each in told) == 1
