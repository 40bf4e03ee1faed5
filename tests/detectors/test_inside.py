"""One score a sample, of what the layer sees of it, whatever a model does inside."""

import pytest
import torch
from inside import (
    Adapted,
    Attended,
    Backwards,
    ChannelGate,
    Chunked,
    Cosines,
    Crops,
    Every2nd,
    Flipped,
    Frames,
    FramesInTurn,
    MiddleTurned,
    Moved,
    Pairs,
    Pooled,
    Pooling,
    Small,
    Sorted,
    Tanh,
    Tiles,
    adapted,
)
from manners import untouched
from pytorch_ood.detector import MaxSoftmax
from smooth_images import images, noisy
from torch import nn

from pytorch_ood_viyog import SharedForward, Viyog, ViyogResidue, ViyogTV, with_score

SIZE = 32
CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def smooth(count, seed=0, size=SIZE):
    return images(count, seed, size)


def fitted(model, x=None, **how):
    x = smooth(70) if x is None else x
    return ViyogResidue(model, **how).fit(list(x.split(24)), progress=False)


@pytest.fixture(scope="module")
def plain():
    return fitted(Small())


@pytest.mark.parametrize(
    ("make", "count"),
    [(Chunked, 12), (lambda: Chunked(1), 5), (lambda: Chunked(5, "chunk"), 12), (Flipped, 9)],
)
def test_parts_of_a_batch_score_as_the_batch(plain, make, count):
    model, x = make(), smooth(count, seed=1)
    with untouched(model):
        detector = fitted(model)
        scores = detector(x)
    torch.testing.assert_close(scores, plain(x), **CLOSE)
    torch.testing.assert_close(detector.noise_floor(x), plain.noise_floor(x), **CLOSE)
    torch.testing.assert_close(detector.residue_map(x), plain.residue_map(x), **CLOSE)
    output, deployed = with_score(model, detector)(x)
    assert torch.equal(output, model(x))
    torch.testing.assert_close(deployed, scores, rtol=1e-2, atol=1e-2)
    shared = SharedForward(model, {"own": ViyogResidue(None), "msp": MaxSoftmax(None)})
    shared.fit([(part, torch.zeros(len(part))) for part in smooth(70).split(24)], progress=False)
    torch.testing.assert_close(shared.predict(x)["own"], scores, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("detector_class", [Viyog, ViyogTV])
def test_all_of_a_fits_images_are_counted(detector_class):
    x = smooth(120)
    parts = detector_class(Chunked()).fit(list(x.split(12)), progress=False)
    whole = detector_class(Small()).fit(list(x.split(12)), progress=False)
    assert int(parts._statistics["count"]) == 120
    torch.testing.assert_close(parts(x[:20]), whole(x[:20]), **CLOSE)


@pytest.mark.parametrize("make", [Frames, FramesInTurn])
def test_a_sample_has_the_largest_evidence_of_its_frames(plain, make):
    videos = smooth(40, seed=1).view(8, 5, 3, SIZE, SIZE)
    detector = fitted(make(), smooth(70).view(14, 5, 3, SIZE, SIZE))
    one = videos.clone()
    one[3, 2] = noisy(one[3, 2])  # a single frame of a single video
    for x in (videos, one):
        expected = plain(x.flatten(0, 1)).view(8, 5).amax(dim=1)
        assert detector(x).shape == (8,)
        torch.testing.assert_close(detector(x), expected, rtol=0.05, atol=0.05)
    assert int(detector(one).argmax()) == 3
    first = ViyogResidue(make()).fit([videos[:1], videos[1:]], progress=False)
    assert int(first(one).argmax()) == 3  # also where the first batch is one video
    assert detector.residue_map(one).shape == (8, 5, 8, 8)
    ways = detector.log_likelihoods(one)
    assert ways.shape == (8, 3)
    assert float(detector.noise_floor(one)[3]) * 255 == pytest.approx(8, abs=2)
    assert float(detector.noise_floor(one)[:3].max()) * 255 < 3.2
    _, scores = with_score(make(), detector)(one)
    torch.testing.assert_close(scores, detector(one), rtol=1e-2, atol=1e-2)
    shared = SharedForward(make(), {"own": ViyogResidue(None)})
    shared.fit([smooth(70).view(14, 5, 3, SIZE, SIZE)], progress=False)
    torch.testing.assert_close(shared.predict(one)["own"], detector(one), rtol=0.05, atol=0.05)
    longer = smooth(21, seed=3).view(3, 7, 3, SIZE, SIZE)  # another number of frames
    expected = plain(longer.flatten(0, 1)).view(3, 7).amax(dim=1)
    torch.testing.assert_close(detector(longer), expected, rtol=0.05, atol=0.05)
    assert shared.predict(longer)["own"].shape == (3,)


@pytest.mark.parametrize("which", [0, 1])
def test_both_images_of_a_pair_are_read(which):
    x = torch.cat([smooth(70), smooth(70, seed=2)], dim=1)
    detector = fitted(Pairs(), x)
    clean = x[:12].clone()
    one = clean.clone()
    half = slice(3 * which, 3 * which + 3)
    one[:, half] = noisy(one[:, half])
    assert detector(clean).shape == (12,)
    assert float(detector(one).min()) > float(detector(clean).max())
    assert float(detector.noise_floor(one).median()) * 255 == pytest.approx(8, abs=2)


def test_crops_are_views_of_a_sample():
    detector, x = fitted(Crops()), smooth(9, seed=1)
    assert detector(x).shape == (9,)
    assert float(detector(noisy(x)).min()) > float(detector(x).max())


def test_many_small_rows_of_a_sample():
    detector = fitted(Tiles(), smooth(70, size=64))
    assert detector.verify(smooth(16, seed=1, size=64)).right


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Every2nd, r"'stem'.*ran on 2 of 4 samples, once"),
        (Backwards, r"'stem'.*in order"),
        (Sorted, r"'stem'.*in order, but it ran on 4 of 4 samples, once"),
        (MiddleTurned, r"'stem'.*in order, but it ran on 4 of 4 samples, once"),
    ],
)
def test_rows_of_nobody_are_an_error(make, told):
    model = make()
    with untouched(model), pytest.raises(RuntimeError, match=told):
        fitted(model)


def test_a_batch_whose_mapping_is_another_is_an_error(plain):
    model = Small()
    detector = fitted(model)
    model.stem.register_forward_pre_hook(lambda _, args: (args[0][: len(args[0]) - 1],))
    with pytest.raises(RuntimeError, match="ran on 5 of 6 samples"):
        detector(smooth(6))


# -- what lies between --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Pooled, Attended, ChannelGate])
def test_side_branches_are_not_the_layer(make):
    model, x = make(), smooth(16, seed=1)
    detector = fitted(model)
    assert detector.layer_name == "stem"
    assert float(detector.noise_floor(noisy(x)).median()) * 255 == pytest.approx(8, abs=3)
    assert float(detector(noisy(x)).min()) > float(detector(x).max())
    tv = ViyogTV(model).fit([smooth(70)], progress=False)
    assert len(tv.channel_profile) == 16


def test_an_adapter_is_part_of_its_layer():
    model, x = adapted(), smooth(16, seed=1)
    merged = Small()
    down, up = model.stem.lora_A.weight, model.stem.lora_B.weight[:, :, 0, 0]
    merged.stem = nn.Conv2d(3, 16, 3, padding=1)
    merged.stem.weight.data = model.stem.base_layer.weight + 0.7 * torch.einsum(
        "or,rchw->ochw", up, down
    )
    merged.stem.bias.data = model.stem.base_layer.bias.data
    merged.head = model.head
    for detector_class in (Viyog, ViyogTV, ViyogResidue):
        own, other = (
            detector_class(m).fit(list(smooth(70).split(24)), progress=False)
            for m in (model, merged)
        )
        assert own.layer_name == "stem"
        torch.testing.assert_close(own(x), other(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "how",
    ["unshuffle", "bgr", "pad", "normalise", "instance", "gamma", "crop", "ycc", "nhwc", "grey"],
)
def test_what_moves_or_scales_values_is_fine(how):
    model, x, y = Moved(how), smooth(70), smooth(16, seed=1)
    if how == "nhwc":
        x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
    elif how == "grey":  # images of one channel, which the model repeats
        x, y = x[:, :1], y[:, :1]
    detector = fitted(model, x)
    floors = detector.noise_floor(noisy(y)) * 255
    assert 8 * 0.6 < float(floors.median()) < 8 * 1.4
    assert float(detector.noise_floor(y).median()) * 255 < 3.2
    assert float(detector(noisy(y)).min()) > float(detector(y).max())


def test_a_linear_stem_is_read_as_one_layer():
    model, y = Cosines(), smooth(16, seed=1, size=96)
    with untouched(model):
        detector = fitted(model, smooth(70, size=96))
    assert detector.layer_name == "input > stem"
    assert detector.state_dict()["tensors"]["geometry"][0].tolist() == [8, 8]
    assert float(detector.noise_floor(noisy(y)).median()) * 255 == pytest.approx(8, rel=0.4)
    assert float(detector(noisy(y)).min()) > float(detector(y).max())
    _, scores = with_score(model, detector)(y)
    torch.testing.assert_close(scores, detector(y), rtol=0.05, atol=0.05)
    loaded = ViyogResidue(Cosines()).load_state_dict(detector.state_dict())
    torch.testing.assert_close(loaded(y), detector(y))
    shared = SharedForward(model, {"own": ViyogResidue(None)})
    shared.fit([smooth(70, size=96)], progress=False)
    torch.testing.assert_close(shared.predict(y)["own"], detector(y), rtol=0.05, atol=0.1)


@pytest.mark.parametrize(("make", "told"), [(Tanh, "conv.*tanh"), (Pooling, "max_pool")])
def test_what_is_not_linear_is_refused_and_named(make, told):
    model = make()
    detector = ViyogResidue(model)
    with untouched(model), pytest.raises(RuntimeError, match=rf"'stem'.*found: .*{told}"):
        detector.fit([smooth(70)], progress=False)
    shared = SharedForward(model, {"own": ViyogResidue(None)})
    with pytest.raises(RuntimeError, match=told):
        shared.fit([smooth(70)], progress=False)
    with pytest.warns(UserWarning, match="'stem'.*verify"):
        ViyogResidue(model, layer="stem").fit([smooth(70)], progress=False)
    ViyogTV(model).fit([smooth(70)], progress=False)  # takes any maps


def test_a_model_that_resizes_is_warned_of():
    model = nn.Sequential(nn.Upsample(scale_factor=1.7, mode="bilinear"), *Small().children())
    with pytest.warns(UserWarning, match="resizes its input"):
        fitted(model)


def test_looking_costs_two_passes_of_few_samples_once():
    model, rows = Small(), []
    model.head.register_forward_hook(lambda _, args, out: rows.append(len(args[0])))
    detector = fitted(model)
    assert rows == [4]
    detector(smooth(6))
    assert rows == [4]
    assert isinstance(adapted().stem, Adapted)
