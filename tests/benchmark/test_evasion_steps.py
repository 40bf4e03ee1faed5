"""How far pixels go along a direction."""

import pytest
import torch

from pytorch_ood_viyog.benchmark.evasion.attacks import proportional


def test_steps_by_hand():
    direction = torch.tensor([[-8.0, 0.0, 1.0, -1.0, 2.0]]).view(1, 1, 1, 5)  # mean size 2.4
    shares = torch.tensor([-1.0, 0.0, 1 / 4.8, -1 / 4.8, 2 / 4.8])
    torch.testing.assert_close(proportional(direction).flatten(), shares)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_proportional_steps_do_not_depend_on_scale(scale):
    direction = torch.randn(3, 2, 4, 4, generator=torch.manual_seed(0))
    torch.testing.assert_close(proportional(direction * scale), proportional(direction))


def test_each_image_has_steps_of_its_own():
    direction = torch.randn(3, 2, 4, 4, generator=torch.manual_seed(0))
    torch.testing.assert_close(proportional(direction)[1:2], proportional(direction[1:2]))


def test_where_nothing_leads_on_nothing_moves():
    assert not proportional(torch.zeros(2, 1, 3, 3)).any()


def test_proportional_steps_leave_less_fine_detail():
    """A gradient with few large pixels: its signs are as rough where it hardly matters."""
    direction = torch.randn(1, 1, 16, 16, generator=torch.manual_seed(0)) * 1e-3
    direction[..., 4:8, 4:8] += 1.0

    def roughness(change):
        return (change - change.roll(1, dims=3)).square().mean() / change.square().mean()

    assert roughness(proportional(direction)) < 0.5 * roughness(direction.sign())
