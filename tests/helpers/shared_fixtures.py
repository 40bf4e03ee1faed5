"""What tests of all rooms are given."""

import copy
import functools
import gc

import pytest
import torch
from networks import SmallNet, build
from our_detectors import DEFAULT_TOLERANCE, DETECTORS, TOLERANCES
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog.evaluation import plotting, residue_plot

pytest.register_assert_rewrite("manners")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _little_time_for_garbage():
    """
    A collection would look at half a million objects of libraries and tests, and exports and
    documentation make so many that are no garbage that a tenth of their time went into looking.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(params=DETECTORS)
def detector_name(request):
    return request.param


@pytest.fixture
def make(detector_name):
    """Constructor of each detector in turn, called as ``make(model, layer=...)``."""
    return DETECTORS[detector_name]


@pytest.fixture
def close(detector_name):
    """Asserts that scores are equal but for rounding: ``close(scores, expected)``."""
    rtol, atol = TOLERANCES.get(detector_name, DEFAULT_TOLERANCE)
    return functools.partial(torch.testing.assert_close, rtol=rtol, atol=atol)


@pytest.fixture
def model():
    return build(SmallNet)


@pytest.fixture(scope="module")
def network():
    """The same model for all tests of a module, which leave it as it is."""
    return build(SmallNet)


@pytest.fixture
def images():
    """64 inputs with a different mean, contrast and spatial frequency each."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(64, 3, 10, 10, generator=generator)
    coarse = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    share, gain = torch.rand(2, 64, 1, 1, 1, generator=generator)
    return (0.5 + gain) * (share * noise + (1 - share) * coarse)


@pytest.fixture
def loader(images):
    labels = torch.arange(len(images)) % 5
    return DataLoader(TensorDataset(images, labels), batch_size=16)


@pytest.fixture(scope="session")
def fitted_before():
    """Detectors by name, as :func:`fitted` fitted them for the first test that asked."""
    return {}


@pytest.fixture
def fitted(detector_name, make, model, loader, fitted_before):
    """Each detector in turn, fitted to ``loader``: a copy, as fits take most of the time."""
    if detector_name not in fitted_before:
        fitted_before[detector_name] = make(build(SmallNet)).fit(loader)
    detector = fitted_before[detector_name]
    return copy.deepcopy(detector, {id(detector.model): model})


@pytest.fixture
def drawn(monkeypatch):
    """The figures as they are when they are written."""
    figures = []
    write = plotting.write_figure

    def keep(plt, figure, path):
        figures.append(figure)
        return write(plt, figure, path)

    for module in (plotting, residue_plot):
        monkeypatch.setattr(module, "write_figure", keep)
    return figures
