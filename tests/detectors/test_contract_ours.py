"""The contract on each of our detectors. A new detector joins by one line at the end."""

from typing import ClassVar

import pytest
import torch
from networks import SmallNet, build
from stems import StandardisedConv
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.detectors.intent import ViyogIntent
from pytorch_ood_viyog.detectors.residue_view import ResidueView
from pytorch_ood_viyog.testing import DetectorContract


class Ours(DetectorContract):
    """What our detectors share: they read ``SmallNet.stem``, whose last layer is a convolution."""

    detector_class: ClassVar[type]

    @pytest.fixture
    def detector(self):
        return self.detector_class(build(SmallNet))

    @pytest.fixture
    def loader(self):
        images = torch.rand(40, 3, 10, 10, generator=torch.Generator().manual_seed(1))
        for _ in range(3):  # as smooth as natural images are
            images = avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        labels = torch.arange(len(images)) % 5
        return list(zip(images.split(20), labels.split(20), strict=True))

    def representation(self, detector, x):
        with torch.no_grad():
            return detector.model.stem(x)

    def anomaly(self, x: Tensor) -> Tensor:
        """An attack's signature: sign noise of 8/255."""
        generator = torch.Generator().manual_seed(2)
        return x + 8 / 255 * torch.randn(x.shape, generator=generator).sign()

    def other_id(self, x: Tensor) -> Tensor:
        """Noise, mostly red, so that other channels are quiet."""
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(3))
        return noise * torch.tensor([3.0, 0.1, 0.1]).view(3, 1, 1)


class Quiet(Ours):
    """The infinity norm takes inputs of less contrast for ADV, which noise does not have."""

    def anomaly(self, x: Tensor) -> Tensor:
        return 0.1 * x


class TestViyog(Quiet):
    detector_class = Viyog


class TestViyogTV(Ours):
    detector_class = ViyogTV


class TestViyogResidue(Ours):
    search_space: ClassVar = {"directions": [8, 24], "kappa": [1.5, 3.0]}
    atol = 1e-2  # logarithms of nearly empty directions: scores have a standard deviation of 1

    @pytest.fixture
    def detector(self):
        # with inputs, the range is read from them; without, it is estimated from the maps
        return ViyogResidue(build(SmallNet), input_range=1.0)

    def without_model(self, detector):
        return ViyogResidue(None, layer=detector.model.stem.conv, input_range=1.0)


class TestViyogIntent(Ours):
    search_space: ClassVar = {"directions": [8, 24]}
    # inputs are found from maps up to rounding; all 40 are taken, as inputs and maps would choose
    # differently
    atol = 0.2

    @pytest.fixture
    def detector(self):
        return ViyogIntent(
            build(SmallNet), residues="filters", eps=(4 / 255,), input_range=1.0, sample_size=40
        )

    def without_model(self, detector):
        conv = detector.model.stem.conv
        return ViyogIntent(
            None, layer=conv, residues="filters", eps=(4 / 255,), input_range=1.0, sample_size=40
        )

    def anomaly(self, x: Tensor) -> Tensor:
        """A residue that came back through the layer's own filters."""
        conv = build(SmallNet).stem.conv
        generator = torch.Generator().manual_seed(2)
        with torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            maps = conv(leaf)
            some = torch.randn(maps.shape, generator=generator)
            some = some * (torch.rand(maps.shape, generator=generator) < 0.1)
            (back,) = torch.autograd.grad((maps * some).sum(), leaf)
        return x + 8 / 255 * back.sign()


class TestViyogResidueOnAnyStem(TestViyogResidue):
    """The same, on a first layer that is linear and no plain convolution."""

    @pytest.fixture
    def detector(self):
        model = build(SmallNet)
        model.stem.conv = StandardisedConv(3, 12, 3, padding=1)
        return ViyogResidue(model, input_range=1.0)


class TestResidueAlarm(Ours):
    atol = 1e-2

    @pytest.fixture
    def detector(self):
        return ResidueView(ViyogResidue(build(SmallNet), input_range=1.0))

    def without_model(self, detector):
        residue = ViyogResidue(None, layer=detector.model.stem.conv, input_range=1.0)
        return ResidueView(residue)
