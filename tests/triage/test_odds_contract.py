"""The log-odds for ADV pass the contract of detectors."""

import copy
from typing import Any

import pytest
import torch
from attacked import attacked, id_batches, trained
from torch import Tensor

from pytorch_ood_viyog import AdversarialOdds
from pytorch_ood_viyog.testing import DetectorContract

MODEL = trained()

# the loader is all there is, and the net is tiny: families may be left out
pytestmark = [
    pytest.mark.filterwarnings("ignore:Only .* attacks of the family"),
    pytest.mark.filterwarnings("ignore:Triage.fit without calibration_loader"),
]


class TestAdversarialOdds(DetectorContract):
    # in log-odds: two answers, rounded to float32, are compared on the scale of ID images
    atol = 5e-3
    # a simulated attack at the edge of success, which rounding tips, moves the learnt rule
    refit_tolerance = 0.03

    @pytest.fixture
    def detector(self) -> Any:
        small = {"id_fpr": 0.1, "noisy_fpr": 0.1, "simulate_on": 40, "held_out": 0.7}
        return AdversarialOdds(copy.deepcopy(MODEL), **small)

    @pytest.fixture
    def loader(self) -> Any:
        return id_batches()

    def anomaly(self, x: Tensor) -> Tensor:
        return attacked(MODEL, x.float(), 8 / 255).to(x.dtype)

    def other_id(self, x: Tensor) -> Tensor:
        return torch.where(torch.rand_like(x) < 0.5, x, x.roll(1, -1))
