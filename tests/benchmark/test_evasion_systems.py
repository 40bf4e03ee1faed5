"""Gradients of what systems make of images, and that they judge as their public methods do."""

import functools

import pytest
import torch
from attacked import id_batches, id_images, trained
from pytorch_ood.detector import ODIN, EnergyBased, Mahalanobis
from torch import nn

from pytorch_ood_viyog import Triage, Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.benchmark.evasion.attacks import Descent, proportional
from pytorch_ood_viyog.benchmark.evasion.gradients import WithGradients
from pytorch_ood_viyog.benchmark.evasion.projections import OUT_OF_QUIET
from pytorch_ood_viyog.benchmark.evasion.system import DetectorSystem, TriageSystem, systems_of
from pytorch_ood_viyog.detectors import ResidueView
from pytorch_ood_viyog.looks import SecondLook
from pytorch_ood_viyog.triage import AdversarialOdds

# the images are few, and the net is tiny
pytestmark = pytest.mark.filterwarnings("ignore:Only .* attacks of the family")


@functools.cache
def exact():
    """The classifier in float64: differences of small steps tell the gradient."""
    return trained().double()


def batches(seed=0):
    return [(x.double(), y) for x, y in id_batches(seed)]


@functools.cache
def residue():
    return ViyogResidue(exact()).fit(batches())


DETECTORS = {
    "ViyogResidue": residue,
    "ResidueView": lambda: ResidueView(residue()),
    "ViyogTV": lambda: ViyogTV(exact()).fit(batches()),
    "Viyog": lambda: Viyog(exact(), bounded=False).fit(batches()),
    "SecondLook": lambda: SecondLook(exact(), purifier="maps", residue=residue()).fit(batches()),
    "EnergyBased": lambda: EnergyBased(exact()),
}


@functools.cache
def triage(look="open"):
    # KNN is asked in scikit-learn, which has no gradients
    options = {"id_fpr": 0.1, "noisy_fpr": 0.1, "simulate_on": 60, "evidence": {"KNN": None}}
    made = Triage(trained(), look=look, **options)
    made.fit(list(id_batches()), list(id_batches(1)), progress=False)
    made.model.double()  # simulated images are float32
    return made


def directional(system, x, direction):
    """Along a direction, for each image: derivative by autograd, and by differences."""
    at = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(system.watch(at).pressure.sum(), at)
    step = 1e-7 * direction
    with torch.no_grad():
        difference = system.watch(x + step).pressure - system.watch(x - step).pressure
    return (gradient * direction).sum(dim=(1, 2, 3)), difference / 2e-7


@pytest.mark.parametrize("name", DETECTORS)
def test_gradients_to_the_input_are_right(name):
    x = id_images(seed=2, copies=1)[0][:6].double()
    x = (x + 0.03 * torch.randn_like(x)).clamp(0.01, 0.99)
    system = DetectorSystem(exact(), DETECTORS[name](), 0.0, 1.0)
    derivative, difference = directional(system, x, torch.randn_like(x))
    assert bool((derivative != 0).any())
    torch.testing.assert_close(derivative, difference, rtol=2e-3, atol=2e-3)


def test_gradients_of_a_triage_are_right():
    system = TriageSystem(triage("never"))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 6, 3, 8, 8, generator=generator).double()
    x = id_images(seed=2, copies=1)[0][:6].double() + 0.03 * noise[0]
    derivative, difference = directional(system, x.clamp(0.01, 0.99), noise[1])
    assert bool((derivative != 0).any())
    # a kink (a quantile of positions, an absolute value) may lie within the step of one
    right = torch.isclose(derivative, difference, rtol=2e-2, atol=2e-2)
    assert int(right.sum()) >= 5


@pytest.mark.parametrize("purifier", ["nlm", "jpeg"])
def test_the_gradient_goes_straight_through_purifiers(purifier):
    """That of the second answer to a purified image, as if it were the image."""
    pytest.importorskip("skimage")
    model = trained()
    look = SecondLook(model, purifier=purifier, strength=0.02, pixel_range=(0, 1))
    look.fit(id_batches(copies=1))
    x = id_images(seed=3, copies=1)[0][:4].requires_grad_()
    with WithGradients():
        second = look.compare(x).second
    (gradient,) = torch.autograd.grad(second.sum(), x)
    assert torch.equal(second.detach(), look.compare(x.detach()).second)
    assert bool((gradient != 0).any())


def test_gradients_are_off_again_after_the_block():
    x = torch.ones(2, requires_grad=True)
    with WithGradients(), torch.no_grad():
        assert (2 * x.detach()).requires_grad
        assert (2 * x.data).requires_grad
        assert x.numpy().tolist() == [1, 1]
    assert not x.detach().requires_grad
    assert not x.data.requires_grad
    with torch.no_grad():
        assert not (2 * x).requires_grad


@pytest.mark.parametrize("look", ["open", "always", "never"])
def test_a_triage_sees_what_its_verdicts_say(look):
    made = triage(look)
    system = TriageSystem(made)
    x = id_images(seed=2, copies=2)[0].double()
    x = torch.cat([x, x + 0.03 * torch.randn_like(x).sign(), torch.rand_like(x)]).clamp(0, 1)
    with torch.no_grad():
        seen = system.watch(x)
        assert torch.equal(system.classify(x), made.read(x).logits)
    verdicts = made.predict(x)
    assert torch.equal(~seen.alarm, (verdicts == 0) | (verdicts == 2))
    assert 0 < int(seen.alarm.sum()) < len(x)


def test_the_odds_for_adv_are_attacked_as_a_detector():
    system = DetectorSystem(exact(), AdversarialOdds(triage("never")), 0.0, 1.0)
    x = id_images(seed=2, copies=1)[0][:4].double().requires_grad_()
    (gradient,) = torch.autograd.grad(system.watch(x).pressure.sum(), x)
    assert bool((gradient != 0).any())


def test_detectors_of_pytorch_ood_get_thresholds_and_are_tried():
    model = trained()
    images = id_images()[0]
    distances = Mahalanobis(lambda x: model.features(x)).fit(id_batches())
    detectors = {"mahalanobis": distances, "energy": EnergyBased(model), "odin": ODIN(model)}
    found = systems_of(detectors, model, list(id_batches(seed=1)), 0.1, images[:4])
    kinds = {name: system.differentiable for name, system in found.items()}
    assert kinds == {"classifier alone": True, "mahalanobis": True, "energy": True, "odin": False}
    for name, detector in detectors.items():
        scores = detector(id_images(seed=1)[0]).detach()
        alarms = (scores > found[name].threshold).float().mean()
        assert 0.05 < float(alarms) <= 0.1
    x = images[:2].clone().requires_grad_()
    assert found["odin"].classify(x).requires_grad
    assert not found["odin"].watch(x).pressure.requires_grad


def test_what_keeps_out_of_quiet_directions_keeps_little_there():
    """Random changes lose most of what the detector responds to, and little of the rest."""
    system = DetectorSystem(exact(), residue(), 0.0, 1.0)
    assert system.residue is residue()
    x = torch.full((8, 3, 8, 8), 0.5)
    free = 0.05 * torch.randn_like(x)
    change = OUT_OF_QUIET.of(system.residue, (8, 8))(free)
    kept = float(change.square().mean() / free.square().mean())
    assert kept == pytest.approx(0.2, abs=0.05)
    weight = exact().stem[0].weight.detach()
    kernels = torch.einsum("mc,cikl->mikl", residue().noise_directions, weight)
    seen, left = (
        nn.functional.conv2d(d.double(), kernels).square().mean(dim=(0, 2, 3))
        for d in (free, change)
    )
    quiet, loud = (left / seen)[:4].mean(), (left / seen)[-4:].mean()
    assert float(quiet) < 0.2 < float(loud)


def test_a_watcher_without_directions_has_none_to_keep_out_of():
    system = DetectorSystem(nn.Identity(), EnergyBased(nn.Identity()), 0.0, 1.0)
    assert system.residue is None
    assert not Descent("margin", OUT_OF_QUIET).suits(system)


# -- how far pixels go along a direction -------------------------------------------------------


def test_steps_by_hand():
    direction = torch.tensor([[-8.0, 0.0, 1.0, -1.0, 2.0]]).view(1, 1, 1, 5)  # mean size 2.4
    shares = torch.tensor([-1.0, 0.0, 1 / 4.8, -1 / 4.8, 2 / 4.8])
    torch.testing.assert_close(proportional(direction).flatten(), shares)
    assert not proportional(torch.zeros(2, 1, 3, 3)).any()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_proportional_steps_depend_on_neither_scale_nor_other_images(scale):
    direction = torch.randn(3, 2, 4, 4, generator=torch.manual_seed(0))
    torch.testing.assert_close(proportional(direction * scale), proportional(direction))
    torch.testing.assert_close(proportional(direction)[1:2], proportional(direction[1:2]))
