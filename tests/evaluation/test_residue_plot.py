"""The figure of a residue map."""

import pytest
import torch

plt = pytest.importorskip("matplotlib.pyplot")

from pytorch_ood_viyog.evaluation import plot_residue_map  # noqa: E402


def test_picture_overlay_scale_and_verdict(drawn, tmp_path):
    own = torch.zeros(4, 4)
    own[0, 0] = 5 / 255
    path = plot_residue_map(torch.rand(3, 16, 16), own, tmp_path / "a" / "map.png", verdict="ADV")
    assert path.read_bytes().startswith(b"\x89PNG")
    picture, overlay, scale = drawn[0].axes
    assert [text.get_text() for text in picture.texts] == ["ADV"]
    shown = overlay.images[-1].get_array()
    assert shown.shape == (16, 16)
    assert shown.max() == shown[0, 0] == pytest.approx(5)
    assert shown[8:, 8:].max() == 0
    assert "1/255" in scale.get_ylabel()


def test_many_and_grey(drawn, tmp_path):
    images = torch.rand(4, 1, 12, 12)
    plot_residue_map(images, torch.zeros(4, 2, 2), tmp_path / "map.png", verdict=list("abcd"))
    texts = [text.get_text() for axis in drawn[0].axes for text in axis.texts]
    assert texts == list("abcd")


@pytest.mark.parametrize(
    ("image", "own", "verdict", "message"),
    [
        (torch.rand(2, 8, 8), torch.rand(2, 2), "", "one or three channels"),
        (torch.rand(8, 8), torch.rand(2, 2), "", r"got \(8, 8\)"),
        (torch.rand(3, 8, 8), torch.rand(2, 2, 2), "", "for each of 1 images"),
        (torch.rand(2, 3, 8, 8), torch.rand(2, 2, 2), ["one"], "and 1 verdicts"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, image, own, verdict, message):
    with pytest.raises(ValueError, match=message):
        plot_residue_map(image, own, tmp_path / "map.png", verdict=verdict)
    assert not list(tmp_path.iterdir())
