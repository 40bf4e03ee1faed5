"""ShiftStability: surprises by hand, what shifts leave alone, bad input."""

import math

import pytest
import torch
from torch import nn

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.looks import ShiftStability
from pytorch_ood_viyog.triage import Fused


class Corner(nn.Module):
    """Two classes, by the pixel in the upper left corner."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.constant_(self.conv.weight[:1], 1.0)
        nn.init.constant_(self.conv.weight[1:], 0.0)

    def forward(self, x):
        return self.conv(x)[:, :, 0, 0]


class Mean(Corner):
    """The same by the mean, which whole shifts of a periodic image leave alone."""

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3))


def image(**pixels):
    """:return: a black 4 × 4 image but for some pixels, named ``at_row_column``"""
    x = torch.zeros(1, 1, 4, 4)
    for place, value in pixels.items():
        row, column = (int(part) for part in place.split("_")[1:])
        x[0, 0, row, column] = value
    return x


def surprise(first, second=0.0):
    """:return: -ln of the first of two classes' probability"""
    return math.log1p(math.exp(second - first))


@pytest.mark.parametrize(
    ("shift", "place"),
    [((0, 0), "at_0_0"), ((-1, 0), "at_0_1"), ((0, -2), "at_2_0"), ((-3, -1), "at_1_3")],
)
def test_to_the_right_and_down_is_positive(shift, place):
    x = image(**{"at_0_0": 1.0, place: 3.0})
    wanted = (surprise(float(x[0, 0, 0, 0])) + surprise(3.0)) / 2
    assert ShiftStability(Corner(), shifts=[shift])(x).item() == pytest.approx(wanted)


def test_borders_are_mirrored():
    x = image(at_0_0=1.0, at_1_2=2.0)
    wanted = (surprise(1.0) + surprise(2.0)) / 2
    assert ShiftStability(Corner(), shifts=[(2, 1)])(x).item() == pytest.approx(wanted)


def test_the_mean_over_the_image_and_all_shifts_at_its_own_answer():
    x = image(at_0_0=-1.0, at_0_1=4.0)  # its answer is the second class
    score = ShiftStability(Corner(), shifts=[(-1, 0), (0, -1)])(x)
    wanted = (surprise(0.0, -1.0) + surprise(0.0, 4.0) + surprise(0.0, 0.0)) / 3
    assert score.item() == pytest.approx(wanted)
    assert score.dtype == torch.float64


def test_an_answer_that_does_not_hang_on_the_place_is_as_sure_everywhere():
    x = torch.full((2, 1, 6, 6), 0.7)
    expected = torch.full((2,), surprise(0.7), dtype=torch.float64)
    assert torch.allclose(ShiftStability(Mean())(x), expected, atol=1e-6)


def test_scores_do_not_depend_on_the_batch():
    x = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    detector = ShiftStability(Mean())
    assert torch.allclose(detector(x), torch.cat([detector(part) for part in x.split(2)]))


def fused(model, shifts=((1, 0),)):
    parts = {"residue": ViyogResidue(None), "shifts": ShiftStability(None, shifts=shifts)}
    return Fused(model, parts)


def test_as_a_partner_that_is_saved(tmp_path):
    x = torch.rand(60, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3)).eval()
    fitted = fused(model).fit([(x, torch.zeros(60, dtype=torch.int64))])
    assert torch.allclose(fitted.scores(x)["shifts"], ShiftStability(model, shifts=[(1, 0)])(x))
    torch.save(fitted.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    loaded = fused(model, shifts=[(2, 2)]).load_state_dict(state)
    assert torch.equal(loaded(x), fitted(x))


@pytest.mark.parametrize("shifts", [[], [(1, 2, 3)]])
def test_shifts_are_pairs(shifts):
    with pytest.raises(ValueError, match="shifts must be pairs of pixels, at least one"):
        ShiftStability(None, shifts=shifts)


def test_shifts_are_whole_pixels():
    with pytest.raises(TypeError, match=r"shifts must be an integer, got 0\.5"):
        ShiftStability(None, shifts=[(0.5, 0)])


@pytest.mark.parametrize("shape", [(2, 1, 3, 3), (2, 1, 9, 3), (2, 9, 9)])
def test_images_larger_than_the_shifts(shape):
    model = Mean() if len(shape) == 4 else nn.Sequential(nn.Conv1d(9, 2, 1), nn.Flatten())
    with pytest.raises(ValueError, match="larger than the largest of its shifts, 3 pixels"):
        ShiftStability(model)(torch.rand(shape))
