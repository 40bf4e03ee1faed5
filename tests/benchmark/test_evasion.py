"""The price of evasion where it is known by hand, bad input, and what the user's things keep."""

import math
import sys

import gates
import pytest
import torch
from gates import GREY, Halves, LeftWatch, WatchInNumPy, WatchWithNoise, halves_images
from manners import untouched
from pytorch_ood.detector import MaxSoftmax
from torch import nn

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.benchmark import evasion
from pytorch_ood_viyog.benchmark.evasion import attacks as families
from pytorch_ood_viyog.benchmark.evasion.projections import Projection
from pytorch_ood_viyog.benchmark.evasion.report import half_budgets
from pytorch_ood_viyog.benchmark.evasion.search import Checks, Plan, smallest_budgets
from pytorch_ood_viyog.benchmark.evasion.system import DetectorSystem, System

BUDGETS = tuple(steps / 255 for steps in (1, 2, 3, 4, 6, 8))


def calibration():
    """Every second image is 1.2 steps from grey on the left: so far, no alarm is raised."""
    x = torch.full((40, 1, 4, 4), GREY)
    x[1::2, ..., :2] += 1.2 / 255
    return x


def run(detector=LeftWatch, model=None, count=6, **options):
    model = Halves() if model is None else model
    usual = {"attacks": ("selective",), "budgets": BUDGETS, "steps": 12, "checks": 0}
    usual |= {"calibration": calibration(), "progress": False}
    system = detector(model) if isinstance(detector, type) else detector
    return evasion(system, halves_images(count), **(usual | options))


def levels(found, name):
    return found.systems[name].level.tolist()


# image i needs i steps on the right; the whole image is worth three times the right half
ALONE = [math.ceil(i / 3) - 1 for i in range(1, 7)]
# one step on the left, 8, is free; the rest, 4 (i - 2), is up to the right, 4 a step of the budget
WATCHED = [0, 0, 0, 1, 2, 3]


def test_levels_and_price_by_hand():
    found = run(attacks=("pgd", "selective"), steps=20)
    assert levels(found, "classifier alone") == ALONE
    assert levels(found, "LeftWatch") == WATCHED
    assert found.accepted("LeftWatch")[BUDGETS[1]] == pytest.approx(4 / 6)
    # alone: 3 of 6 at the first budget; watched: 3 of 6 as well
    assert found.half("classifier alone") == pytest.approx(1 / 255)
    price, low, high = found.price("LeftWatch")
    assert price == pytest.approx(1.0)
    assert low <= price <= high


def test_what_gets_through_is_within_its_budget_and_8_bit():
    found = run()
    pixels, clean = found.systems["LeftWatch"].pixels, halves_images(6)
    change = (pixels - 255 * clean).abs().amax(dim=(1, 2, 3)).round()
    limits = torch.tensor([255 * BUDGETS[i] for i in levels(found, "LeftWatch")])
    assert bool((change <= limits + 1e-3).all())
    assert pixels.dtype == torch.uint8
    accepted = pixels.float() / 255
    assert bool((Halves().eval()(accepted).argmax(dim=1) == 1).all())
    assert bool((LeftWatch(None)(accepted) <= 1.2 + 1e-4).all())


def test_half_budgets_by_hand():
    shares = torch.tensor([[0.25, 0.75, 1.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0], [0.0, 0.1, 0.4]])
    expected = torch.tensor([1.5, 1.0, 1.0, math.inf]).double()  # nothing below the first
    assert torch.equal(half_budgets((1.0, 2.0, 4.0), shares), expected)


def test_a_system_that_nothing_gets_through_has_an_infinite_price():
    found = run(budgets=(1 / 255,), calibration=torch.full((40, 1, 4, 4), GREY))
    assert found.price("LeftWatch")[0] == math.inf
    assert "| > 1 | > 1.0 (" in found.table()


@pytest.mark.parametrize("name", [n for n in families.ATTACKS if not n.startswith("quiet")])
def test_each_attack_gets_past_a_watched_classifier(name):
    x, y = halves_images(2), torch.zeros(2, dtype=torch.int64)
    system = DetectorSystem(Halves().eval(), LeftWatch(None), 1.2, 1.0)
    plan = Plan((2 / 255, 24 / 255), {name: families.ATTACKS[name]}, 12, restarts=2)
    knows = families.ATTACKS[name].knows_system
    found = smallest_budgets(system if knows else System(Halves().eval()), x, y, plan)
    assert bool((found.level < 2).all())


# -- systems of all kinds -------------------------------------------------------------------


def test_a_system_without_gradients_is_attacked_without_them():
    found = run(WatchInNumPy, count=2)
    assert not found.systems["WatchInNumPy"].differentiable
    assert set(found.systems["WatchInNumPy"].attack) <= {"pgd", ""}
    assert "**WatchInNumPy has no gradients**" in found.table()


def test_a_random_system_is_asked_several_times():
    found = run(WatchWithNoise, count=4, steps=6)
    assert found.systems["WatchWithNoise"].draws == 8
    assert "has random parts" in found.table()
    assert levels(found, "WatchWithNoise")[0] < len(BUDGETS)


def test_a_system_with_few_draws_may_draw_the_same_one_twice():
    class Seldom(LeftWatch):
        calls = 0

        def _deviation(self, x):
            self.calls += 1
            return super()._deviation(x) + 1e-4 * (self.calls % 7 == 0)

    assert run(Seldom, count=2, steps=2).systems["Seldom"].draws == 8


def test_masked_gradients_are_found_out():
    class Masked(Halves):
        def forward(self, x):
            return super().forward(gates.Misleading.apply(x))

    found = run(model=Masked(), attacks=("square",), checks=2, count=2, steps=6)
    checks = found.systems["classifier alone"].checks
    assert checks.masked
    assert "**classifier alone masks its gradients**" in found.table()
    assert f"**{checks.black_box:.2f}**" in found.table()


def test_checks_of_an_honest_system():
    checks = run(checks=6).systems["LeftWatch"].checks
    assert isinstance(checks, Checks)
    assert checks.by_budget[0] <= checks.by_budget[-1]
    assert list(checks.by_steps) == [1, 4, 12]
    assert checks.by_steps[1] <= checks.by_steps[12]
    assert checks.unbounded == 1.0
    assert checks.noise == 0.0
    assert not checks.masked


def test_the_checks_run_the_attack_that_is_strongest_by_itself(monkeypatch):
    """One that changes all pixels alike is tried first, and gets only easy images through."""
    mean = Projection(lambda *_: lambda free: free.mean(dim=(2, 3), keepdim=True).expand_as(free))
    alike, each = families.Descent("selective", mean), families.ATTACKS["selective"]
    tried = {"pgd": families.Descent(), "alike": alike, "each": each}
    monkeypatch.setattr(sys.modules[evasion.__module__], "ATTACKS", tried)
    found = run(attacks=("alike", "each"), count=10, checks=10, steps=20)
    result = found.systems["LeftWatch"]
    assert result.checks.attack == "each"
    assert result.checks.by_budget == pytest.approx(list(found.accepted("LeftWatch").values()))


def test_without_a_budget_counts_what_needs_little():
    class FlatFarAway(LeftWatch):
        """Nothing leads back from where large steps go."""

        def _deviation(self, x):
            return super()._deviation(x).clamp(max=6 / 255)

    found = run(FlatFarAway, checks=6, steps=20)
    assert levels(found, "FlatFarAway") == WATCHED
    assert found.systems["FlatFarAway"].checks.unbounded == 1.0
    # what needs more than the largest budget is looked for step by step
    found = run(FlatFarAway, checks=6, steps=20, budgets=(1 / 255,))
    assert levels(found, "FlatFarAway") == [0, 0, 0, 1, 1, 1]
    assert found.systems["FlatFarAway"].checks.unbounded == 1.0


# -- manners --------------------------------------------------------------------------------


def test_the_model_is_left_as_found():
    model = Halves().train()
    model.weight.grad = torch.ones_like(model.weight)
    with untouched(model):
        run(model=model, count=2)
    assert torch.equal(model.weight.grad, torch.ones_like(model.weight))


def test_the_same_twice():
    one, two = (run(count=3, attacks=("selective", "square"), restarts=2) for _ in range(2))
    assert torch.equal(one.systems["LeftWatch"].pixels, two.systems["LeftWatch"].pixels)


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    class Counting(LeftWatch):
        calls, most = 0, math.inf

        def predict(self, x):
            type(self).calls += 1
            if self.calls > self.most:
                raise KeyboardInterrupt
            return super().predict(x)

    options = {"detector": Counting, "cache": tmp_path, "batch_size": 2, "checks": 1}
    options |= {"count": 4, "steps": 5}
    whole = run(**options | {"cache": None})
    in_all, Counting.calls, Counting.most = Counting.calls, 0, 0.7 * Counting.calls
    with pytest.raises(KeyboardInterrupt):
        run(**options)
    Counting.calls, Counting.most = 0, math.inf
    resumed = run(**options)
    assert Counting.calls < in_all
    assert resumed.table() == whole.table()
    Counting.calls = 0
    assert run(**options).table() == whole.table()
    assert Counting.calls < 0.3 * in_all
    for file in tmp_path.glob("*/checks.pt"):
        file.write_text("{")
    with pytest.warns(UserWarning, match="is damaged and computed again"):
        assert run(**options).table() == whole.table()


def test_other_settings_are_other_runs(tmp_path):
    run(count=2, cache=tmp_path)
    run(count=2, cache=tmp_path, steps=11)
    assert len(list(tmp_path.iterdir())) == 4  # two systems each


# -- bad input ------------------------------------------------------------------------------


def test_wrong_answers_before_any_attack_are_left_out():
    labels = torch.tensor([0, 1, 0])  # all images are of class 0
    found = run(count=3, labels=labels)
    assert (found.index.tolist(), found.left_out) == ([0, 2], 1)
    assert "2 images attacked, 1 left out" in found.table()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budgets": (2 / 255, 1 / 255)}, ValueError, "budgets must ascend"),
        ({"budgets": ()}, ValueError, "budgets must ascend"),
        ({"budgets": (0.5 / 255,)}, ValueError, "at least 1/255"),
        ({"budgets": (8,)}, ValueError, "budgets must be finite and in"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, ValueError, "one class for each of the 6"),
        ({"labels": torch.zeros(6)}, ValueError, "got torch.float32"),
        ({"labels": torch.ones(6, dtype=torch.int64)}, ValueError, "gets wrong before any attack"),
        ({"attacks": ("magic",)}, ValueError, "attacks must be names among"),
        ({"attacks": "pgd"}, TypeError, "a sequence of names"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"alarms": 0.9}, ValueError, "alarms must be"),
        ({"calibration": None}, ValueError, "has no threshold. Pass ID images"),
        ({"calibration": torch.full((5, 1, 4, 4), GREY)}, ValueError, "19 or more ID samples"),
        ({"detector": {}}, ValueError, "one or more detectors"),
        ({"detector": {"x": nn.ReLU()}}, TypeError, "got ReLU for 'x'"),
        ({"detector": {"classifier alone": LeftWatch(None)}}, ValueError, "none of them named"),
        ({"detector": LeftWatch(None)}, ValueError, "Pass the classifier by model="),
    ],
)
def test_errors_say_what_came(options, error, message):
    with pytest.raises(error, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(2, 4, 4), ValueError, "shape \\(N, C, H, W\\)"),
        (torch.full((1, 1, 4, 4), 2.0), ValueError, "from 2 to 2. Put the normalisation"),
        (torch.full((1, 1, 4, 4), math.nan), ValueError, "images must be in"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), TypeError, "got torch.uint8"),
        ([[1.0]], TypeError, "got list"),
    ],
)
def test_images_that_cannot_be_attacked(images, error, message):
    with pytest.raises(error, match=message):
        evasion(LeftWatch(Halves()), images, calibration=calibration())


def test_an_unfitted_detector_says_so():
    with pytest.raises(Exception, match="fit"):
        run(ViyogResidue(nn.Conv2d(1, 8, 3)), model=Halves())


# -- what is written ------------------------------------------------------------------------


def test_files(tmp_path):
    pytest.importorskip("matplotlib")
    found = run({"watch": LeftWatch(Halves()), "msp": MaxSoftmax(Halves().eval())}, count=3)
    text, table = found.save(tmp_path / "deep" / "run", "Mine")
    assert text.read_text().startswith("# Mine\n\n3 images attacked, 0 left out")
    lines = table.read_text().splitlines()
    assert lines[0] == "System,Budget,Accepted,Attacked,HalfBudget,Price,Price low,Price high"
    assert len(lines) == 1 + 3 * len(BUDGETS)
    assert found.plot(tmp_path / "deep" / "run").stat().st_size > 1000
