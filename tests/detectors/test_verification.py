"""What is read, in words, and whether it is right; readings that say that they are not."""

import warnings

import pytest
import torch
from inside import Cosines, Frames, Small, Tanh
from manners import untouched
from smooth_images import images
from torch import nn

from pytorch_ood_viyog import SecondLook, ViyogResidue, with_score
from pytorch_ood_viyog.images.purifiers import IMAGE_PURIFIERS, purified_images


@pytest.fixture(scope="module")
def detector():
    return ViyogResidue(Small()).fit([images(70, 0, 32)], progress=False)


def test_a_right_layer(detector):
    x = images(12, 1, 32)
    with untouched(detector.model):
        found = detector.verify(x)
    assert found.right is True
    assert found.read * 255 == pytest.approx(8, rel=0.1)
    assert found.added == 8 / 255
    assert found.ordered == 1.0
    assert "right: at layer 'stem', 7.5 / 255 is read of 8.0 / 255" in str(found)
    assert float(found.scores[1].min()) > float(found.scores[0].max())
    assert detector.verify(x, eps=4 / 255).read * 255 == pytest.approx(4, rel=0.2)
    with pytest.raises(ValueError, match="some images"):
        detector.verify(x[:1])


def test_a_wrong_layer():
    """The user insists on a layer behind something that is not linear."""
    model = nn.Sequential(nn.MaxPool2d(5, 1, 2), nn.AvgPool2d(3, 1, 1), *Small().children())
    with pytest.warns(UserWarning, match="verify"):
        detector = ViyogResidue(model, layer="2").fit([images(70, 0, 32)], progress=False)
    assert detector.verify(images(12, 1, 32)).right is False
    assert isinstance(Tanh(), nn.Module)


def test_a_fit_says_that_it_tells_nothing():
    class Smoothed(Small):
        def forward(self, x):
            return super().forward(x + 0.1 * torch.randn_like(x))

    with pytest.warns(UserWarning, match=r"up to 8/255 can hardly be told.*pairs are in order"):
        detector = ViyogResidue(Smoothed()).fit([images(70, 0, 32)], progress=False)
    assert not detector.verify(images(16, 1, 32)).right
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ViyogResidue(Small()).fit([images(70, 0, 32)], progress=False)


def test_it_is_told_what_is_read(detector):
    text = str(detector.describe())
    for line in (
        r"layer:      stem",
        r"kernel:     3×3, stride 1×1, 3 to 16 channels",
        r"before it:  the image",
        r"runs:       once on each sample",
        r"directions: 16 at a position, 16 around it",
        r"empty:      0 more",
        r"range:      1, 1, 1",
        r"maps:       32 × 32",
    ):
        assert line in text
    videos = images(70, 0, 32).view(14, 5, 3, 32, 32)
    frames = ViyogResidue(Frames()).fit([videos], progress=False)
    assert frames.describe().runs == "5 times on each sample"
    assert frames.verify(videos).right


def test_inputs_of_another_range_and_of_integers():
    x = images(70, 0, 32)
    scaled = nn.Sequential(nn.BatchNorm2d(3), *Small().children()).eval()
    scaled[0].running_var.copy_(torch.tensor([0.1, 5.0, 900.0]))
    assert ViyogResidue(scaled).fit([255 * x], progress=False).verify(255 * x[:12]).right

    class Bytes(Small):
        def forward(self, x):
            return super().forward(x.float() / 255)

    whole = (255 * x).byte()
    assert ViyogResidue(Bytes()).fit([whole], progress=False).verify(whole[:12]).right


def test_integers_that_the_layer_does_not_take(detector):
    with pytest.raises(TypeError, match=r"'stem' takes floating point numbers, got torch.uint8"):
        detector((255 * images(2, 1, 32)).byte())


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_noise_floors_of_pointwise_stems(channels):
    model = nn.Sequential(nn.Conv2d(3, channels, 1), nn.ReLU(), nn.Conv2d(channels, 4, 3))
    detector = ViyogResidue(model).fit([images(70, 0, 32)], progress=False)
    found = detector.verify(images(12, 1, 32))
    assert found.right
    assert found.read * 255 == pytest.approx(8, rel=0.2)


def test_floors_that_nobody_can_tell():
    rough = torch.rand(80, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    detector = ViyogResidue(Small()).fit([rough[:70]], progress=False)
    with pytest.warns(UserWarning, match="noise floors are NaN"):
        assert bool(detector.noise_floor(rough[70:]).isnan().all())


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_images(count, detector):
    with pytest.raises(ValueError, match=f"at least 4 ID images.*got {count}"):
        ViyogResidue(Small()).fit([images(count, 0, 32)], progress=False)


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("name", IMAGE_PURIFIERS)
def test_purifiers_of_images_of_any_channels(channels, name):
    if name == "jpeg" and channels == 6:
        pytest.skip("JPEG has no six channels and says so")
    x = torch.rand(2, channels, 12, 12)
    assert purified_images(name, x, torch.tensor([0.03, 0.03])).shape == x.shape


def test_a_second_look_at_one_channel():
    x = images(40, 0, 32)[:, :1]
    look = SecondLook(Small(channels=1), purifier="nlm").fit([x], progress=False)
    assert look(x[:4]).shape == (4,)


# -- wrappers ---------------------------------------------------------------------------------


def test_a_first_layer_that_was_compiled():
    model = Small()
    model.stem = torch.compile(model.stem, backend="eager")
    x = images(70, 0, 32)
    detector = ViyogResidue(model).fit([x], progress=False)
    output, scores = with_score(model, detector)(x[:8])
    torch.testing.assert_close(scores, detector(x[:8]), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(output, model(x[:8]))
    assert hasattr(model.stem, "_orig_mod")


@pytest.mark.filterwarnings("ignore")
def test_scripted_and_exported_models_are_refused():
    model, x = Small().eval(), images(4, 0, 32)
    for other in (
        torch.jit.script(model),
        torch.jit.trace(model, x),
        torch.export.export(model, (x,)).module(),
    ):
        for layer in (None, "stem"):
            with pytest.raises(TypeError, match=r"hooks do not run.*eager model"):
                ViyogResidue(other, layer=layer)
    assert ViyogResidue(torch.fx.symbolic_trace(model)).fit([images(8, 0, 32)], progress=False)


def test_linear_patches_are_read_with_their_cutting():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(48, 64), nn.Linear(64, 5)

        def forward(self, x):
            patches = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
            return self.head(self.embed(patches).mean(dim=1))

    x = images(70, 0, 32)
    with pytest.raises(RuntimeError, match=r"layer='input > NAME'"):
        ViyogResidue(Patches(), layer="embed").fit([x], progress=False)
    detector = ViyogResidue(Patches(), layer="input > embed").fit([x], progress=False)
    assert detector.state_dict()["tensors"]["geometry"][:2].tolist() == [[4, 4], [4, 4]]
    assert detector.verify(images(12, 1, 32)).right
    assert isinstance(Cosines(), nn.Module)


def test_weights_that_come_when_they_work():
    accelerate = pytest.importorskip("accelerate")
    model = accelerate.cpu_offload(Small(), execution_device=torch.device("cpu"))
    x = images(70, 0, 32)
    plain = ViyogResidue(Small()).fit([x], progress=False)
    detector = ViyogResidue(model).fit([x], progress=False)
    torch.testing.assert_close(detector(x[:8]), plain(x[:8]), rtol=1e-2, atol=1e-2)
