"""
The contract on the new detector: ``pytest examples/contract``.
"""

import pytest
import torch
from mean_distance import MeanDistance
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog.testing import DetectorContract

# %%
# A small model and a few inputs are enough, and keep it at a second or two. Batch norm and
# dropout are there on purpose: their state shows whether the detector leaves the model alone.


def small_encoder() -> nn.Module:
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 8, 3)
    return nn.Sequential(
        convolution, nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(288, 6)
    ).eval()


def small_dataset() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.rand(32, 3, 8, 8, generator=generator), torch.arange(32) % 4)


# %%
# Two fixtures, and what the checks cannot know: inputs that must score higher.


class TestMeanDistance(DetectorContract):
    # the model is called in the mode that it is in, as pytorch-ood's detectors do it
    runs_model_as_is = True

    @pytest.fixture
    def detector(self):
        return MeanDistance(small_encoder())

    @pytest.fixture
    def loader(self):
        return DataLoader(small_dataset(), batch_size=16)

    def anomaly(self, x):
        return 5 * x


# %%
# Run it: ``pytest examples/contract`` ends in ``38 passed``: 37 checks, and the one that counts
# them. Take a line out of ``mean_distance.py`` and see what the contract says.
