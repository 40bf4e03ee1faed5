import torch

from pytorch_ood_viyog.images.views import mirrored, moved


def test_moved_by_hand() -> None:
    x = torch.arange(20.0).view(1, 1, 4, 5)
    # one pixel down and to the right; row 1 and column 1 are reflected in
    expected = [[6, 5, 6, 7, 8], [1, 0, 1, 2, 3], [6, 5, 6, 7, 8], [11, 10, 11, 12, 13]]
    assert moved(x).tolist() == [[expected]]


def test_moved_by_six_percent() -> None:
    x = torch.rand(2, 3, 50, 100)
    assert torch.equal(moved(x)[:, :, 3:, 6:], x[:, :, :-3, :-6])


def test_one_row_of_pixels_is_moved_along_it() -> None:
    x = torch.rand(2, 3, 1, 50)
    assert torch.equal(moved(x)[..., 3:], x[..., :-3])


def test_mirrored_by_hand() -> None:
    assert mirrored(torch.tensor([[[[1, 2, 3]]]])).tolist() == [[[[3, 2, 1]]]]
