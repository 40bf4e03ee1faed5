"""Directions that ID images leave exactly empty, and axes of length 1."""

import warnings

import pytest
import torch
from inside import Small
from smooth_images import images, noisy
from torch import nn

from pytorch_ood_viyog import ViyogResidue, with_score
from pytorch_ood_viyog.images import apply_ways


def signals(count, seed, length=400):
    """Slow sums of sines, rounded to 8 bit: (B, 1, N)."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(length) / length
    waves = torch.rand(count, 6, 1, generator=generator) * 12
    phases = torch.rand(count, 6, 1, generator=generator) * 7
    x = torch.sin(6.28 * waves * t + phases).mean(dim=1, keepdim=True) / 2 + 0.5
    return (x * 255).round() / 255


def one_axis():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv1d(1, 24, 31, stride=4), nn.ReLU(), nn.Conv1d(24, 4, 3))


def two_axes(axis, padding=0):
    flat = one_axis()
    sizes = [(3, 1) if k == 3 else (31, 1) for k in (31, 3)]
    sizes = sizes if axis == 3 else [size[::-1] for size in sizes]
    where = [0, padding] if axis == 3 else [padding, 0]
    if padding:
        sizes = [tuple(3 if n == 1 else n for n in size) for size in sizes]
    convs = [
        nn.Conv2d(1, 24, sizes[0], stride=(4, 1) if axis == 3 else (1, 4), padding=where),
        nn.Conv2d(24, 4, sizes[1], padding=where),
    ]
    for conv, of in zip(convs, (flat[0], flat[2]), strict=True):
        conv.weight.data.zero_()
        conv.weight.data.select(axis, padding).copy_(of.weight)
        conv.bias.data.copy_(of.bias)
    return nn.Sequential(convs[0], nn.ReLU(), convs[1])


@pytest.mark.parametrize(("axis", "padding"), [(3, 0), (2, 0), (3, 1)])
@pytest.mark.filterwarnings("error::pytorch_ood_viyog.WayWarning")
def test_an_axis_of_length_one_is_dropped(axis, padding):
    x, y = signals(70, 0), signals(16, 1)
    flat = ViyogResidue(one_axis()).fit([x[:40], x[40:]], progress=False)
    model = two_axes(axis, padding)
    detector = ViyogResidue(model).fit(
        [x[:40].unsqueeze(axis), x[40:].unsqueeze(axis)], progress=False
    )
    for batch in (y, noisy(y)):
        scores = detector(batch.unsqueeze(axis))
        torch.testing.assert_close(scores, flat(batch), rtol=1e-2, atol=2e-2)
        floors = detector.noise_floor(batch.unsqueeze(axis))
        torch.testing.assert_close(floors, flat.noise_floor(batch), rtol=1e-2, atol=1e-3)
    assert float(detector(noisy(y).unsqueeze(axis)).min()) > 10
    maps = model[0](y.unsqueeze(axis)).detach()
    torch.testing.assert_close(
        detector.predict_features(maps), detector(y.unsqueeze(axis)), rtol=1e-2, atol=1e-2
    )
    _, deployed = with_score(model, detector)(y.unsqueeze(axis))
    torch.testing.assert_close(deployed, detector(y.unsqueeze(axis)), rtol=1e-2, atol=1e-2)
    loaded = ViyogResidue(model).load_state_dict(detector.state_dict())
    assert torch.equal(loaded(y.unsqueeze(axis)), detector(y.unsqueeze(axis)))


def test_a_filter_over_all_of_an_axis():
    """As the spatial filters of EEG nets: 8 electrodes in, one position out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 24, (8, 15)), nn.ReLU(), nn.Conv2d(24, 4, (1, 3)))
    x, y = (signals(8 * n, s).view(n, 1, 8, 400) for n, s in ((70, 0), (16, 1)))
    detector = ViyogResidue(model).fit([x], progress=False)
    assert float(detector(noisy(y)).min()) > float(detector(y).max())
    assert float(detector.noise_floor(noisy(y)).median()) * 255 == pytest.approx(8, rel=0.4)


@pytest.mark.parametrize("copies", [3, 4])
def test_equal_channels_leave_directions_empty(copies):
    """Grey images as three equal channels, four equal stacked frames."""
    model = Small(channels=copies, maps=40)
    x, y = (images(n, s, 32)[:, :1].repeat(1, copies, 1, 1) for n, s in ((70, 0), (16, 1)))
    detector = ViyogResidue(model).fit([x], progress=False)
    assert len(detector.state_dict()["tensors"]["empty"]) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean = detector(y)
        # 4/255 in all channels at once are as strong as 4 √3 in each of them
        grey_noise = y + (noisy(y[:, :1], 4) - y[:, :1])
        assert float(detector(grey_noise).min()) > float(clean.max())
    assert float(detector.foreign_energy(y).max()) < 0.1 / 255
    with pytest.warns(UserWarning, match=r"16 of 16 inputs.*exactly empty.*not of the ID kind"):
        scores = detector(noisy(y))
    assert float(scores.min()) > float(clean.max())
    assert float(detector.noise_floor(noisy(y)).median()) * 255 == pytest.approx(8, rel=0.4)
    assert float(detector.noise_floor(y).median()) * 255 < 3.2
    foreign = detector.foreign_energy(noisy(y)).median()
    assert float(foreign) * 255 == pytest.approx(8, rel=0.1)


def test_the_layer_runs_once_for_empty_directions_and_maps_that_are_read(monkeypatch):
    """Few patches, all at the border: nothing is read from the layer's input."""
    x, y = (images(n, s, 8)[:, :1].repeat(1, 3, 1, 1) for n, s in ((70, 0), (16, 1)))
    model = nn.Sequential(nn.Conv2d(3, 48, 4, stride=4), nn.Flatten(), nn.Linear(192, 4))
    detector = ViyogResidue(model).fit([x], progress=False)
    assert len(detector.state_dict()["tensors"]["empty"]) > 0
    run, weights = nn.functional.conv2d, []

    def counted(inputs, weight, *args, **kwargs):
        weights.append(weight)
        return run(inputs, weight, *args, **kwargs)

    monkeypatch.setattr(nn.functional, "conv2d", counted)
    detector(y)
    assert sum(weight is model[0].weight for weight in weights) == 1


@pytest.mark.parametrize(("maps", "through"), [(16, None), (64, "rounding")])
def test_residues_of_grey_images_before_and_after_they_get_three_channels(maps, through):
    x, y = (images(n, s, 32)[:, :1].repeat(1, 3, 1, 1) for n, s in ((70, 0), (16, 1)))
    detector = ViyogResidue(Small(maps=maps), through=through).fit([x], progress=False)
    grey, clean = noisy(y[:, :1], 8).repeat(1, 3, 1, 1), y
    if through is not None:
        clean, grey = (apply_ways(through, z.clamp(0, 1)) for z in (y, grey))
    assert float(detector(grey).min()) > float(detector(clean).max())


def test_a_model_that_reads_one_channel_as_three():
    class Repeated(Small):
        def forward(self, x):
            return super().forward(x[:, 1:2].repeat(1, 3, 1, 1))

    detector = ViyogResidue(Repeated()).fit([images(70, 0, 32)], progress=False)
    assert detector.verify(images(16, 1, 32)).right


def test_colour_images_leave_none_empty():
    detector = ViyogResidue(Small(maps=40)).fit([images(70, 0, 32)], progress=False)
    tensors = detector.state_dict()["tensors"]
    assert len(tensors["empty"]) == 0
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert not bool(detector.foreign_energy(images(4, 1, 32)).any())
