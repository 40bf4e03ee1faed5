"""The contract on the detectors that ask the model again."""

import pytest
import torch
from contract_models import class_batches, classifier
from torch import Tensor
from torch.nn.functional import cross_entropy

from pytorch_ood_viyog.looks import SecondLook
from pytorch_ood_viyog.testing import DetectorContract


class Looks(DetectorContract):
    """What they share: a classifier with classes, and attacks on its answers."""

    @pytest.fixture
    def loader(self):
        return [((0.5 + x / 4).clamp(0, 1), y) for x, y in class_batches()]

    def anomaly(self, x: Tensor) -> Tensor:
        """Halfway towards another answer of the model, as attacks leave it."""
        model = classifier()
        image = x.detach().float().clone().requires_grad_(True)
        answer = model(image)
        (gradient,) = torch.autograd.grad(cross_entropy(answer, answer.argmax(dim=1)), image)
        return (x + 24 / 255 * gradient.sign()).clamp(0, 1)

    def other_id(self, x: Tensor) -> Tensor:
        return 0.5 * x + 0.25


class TestSecondLook(Looks):
    # in standard deviations of ID: where the noise floor is nearly zero, rounding moves it
    atol = 2e-2

    @pytest.fixture
    def detector(self):
        return SecondLook(classifier(), purifier="maps")


class TestSecondLookAtImages(TestSecondLook):
    @pytest.fixture
    def detector(self):
        return SecondLook(classifier(), purifier="nlm", strength=4 / 255)
