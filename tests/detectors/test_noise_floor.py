"""NoiseFloor gives what ViyogResidue estimates."""

import torch
from smooth_images import images as natural

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.detectors.noise_floor import NoiseFloor


def test_it_is_the_noise_floor_of_the_residue():
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 32, 3).eval()
    residue = ViyogResidue(model, input_range=1.0).fit([natural(64, 0)])
    x = natural(12, 1)
    noisy = (255 * x + 4 * torch.randn_like(x)).round().clamp(0, 255) / 255
    floor = NoiseFloor(residue)
    both = torch.cat([x, noisy])
    torch.testing.assert_close(floor(both), residue.noise_floor(both), check_dtype=False)
    assert (floor(noisy) > floor(x)).float().mean() > 0.9
