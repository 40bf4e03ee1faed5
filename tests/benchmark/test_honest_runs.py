"""Runs that would mislead or lose work: labels, order, rounding, failures, kills."""

import copy
import math
import multiprocessing
import random
import sys
import time

import digits
import numpy as np
import pytest
import torch
from flat_images import Mean
from pytorch_ood.detector import EnergyBased, KLMatching, MaxSoftmax
from torch import nn
from torch.utils.data import Dataset
from wrapped import Packed

from pytorch_ood_viyog import ViyogTV
from pytorch_ood_viyog.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.benchmark.attacks import as_attack
from pytorch_ood_viyog.images import BenignChange, load_images

NOISE = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def invert(model, x, y):
    return 1 - x


def shift(model, x, y, by=2):
    """Rolls the image: fools the digits' classifier often."""
    return x.roll(by, dims=3)


def data(count=60):
    (train, labels), (test, y) = digits.images()
    return (train[:200], labels[:200]), (test[:count], y[:count])


def bench(attacks=None, id_test=None, ood=None, model=None, **options):
    train, test = data()
    model = digits.trained() if model is None else model
    options = {"id_train": train, "resamples": 0, "progress": False} | options
    ood = {"noise": NOISE} if ood is None else ood
    attacks = {"invert": invert} if attacks is None else attacks
    return AdversarialBenchmark(
        model, test if id_test is None else id_test, ood, attacks, **options
    )


class TestLabels:
    def test_of_another_numbering_are_told_with_the_shift(self):
        _, (x, y) = data()
        with pytest.raises(ValueError, match=r"min_images=10.*With -1 on the labels.*numbered"):
            bench(id_test=(x, y + 1)).evaluate(Mean())

    def test_near_chance_are_warned_of_where_enough_is_left(self):
        _, (x, y) = data(300)
        wrong = (y + torch.randint(10, y.shape, generator=torch.Generator().manual_seed(0))) % 10
        with pytest.warns(UserWarning, match=r"classifies \d+\.\d% of the 300 id_test images"):
            rows = bench(id_test=(x, wrong)).evaluate(Mean())
        assert rows[0]["CleanAccuracy"] < 0.2

    def test_clean_accuracy_stands_in_every_table(self, tmp_path):
        made = bench()
        rows = made.evaluate(Mean())
        accuracy = made.clean_accuracy()
        assert 0.9 < accuracy < 1
        assert {row["CleanAccuracy"] for row in rows} == {accuracy}
        table, text = made.save(tmp_path / "run")
        assert "CleanAccuracy" in table.read_text().splitlines()[0]
        assert f"Clean accuracy of the model: {accuracy:.3f}." in text.read_text()

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (lambda y: y + 0.5, r"Image 0 of data set 'id_test' has the label \d\.5"),
            (lambda y: nn.functional.one_hot(y, 10), "one-hot"),
            (lambda y: [f"digit {i}" for i in y.tolist()], "'digit"),
        ],
    )
    def test_that_are_none_are_told_before_the_fit(self, labels, message):
        _, (x, y) = data()

        class Unfitted(Mean):
            def fit(self, loader):
                raise AssertionError("fitted before the labels were read")

        pairs = list(zip(x, labels(y), strict=True))
        with pytest.raises(ValueError, match=message):
            bench(id_test=pairs).evaluate(Unfitted(), fit=True)

    def test_in_other_forms_are_read(self):
        _, (x, y) = data()
        for form in (float, np.int64, lambda v: np.array([v]), lambda v: torch.tensor([[v]])):
            pairs = [(image, form(label)) for image, label in zip(x, y.tolist(), strict=True)]
            made = bench(id_test=pairs)
            assert made.clean_accuracy() > 0.9

    def test_of_ood_images_are_not_read(self):
        ood = [(torch.rand(1, 8, 8), "cat") for _ in range(12)]
        assert not any(row["Error"] for row in bench(ood={"cats": ood}).evaluate(Mean()))

    def test_are_needed_for_attacks_and_wanted_for_fits(self, tmp_path):
        (x, _), _ = data()
        np.save(tmp_path / "a.npy", (x * 255).byte().numpy())
        zeros = load_images(tmp_path / "a.npy")  # which stand for no labels
        for unlabelled in (x, zeros):
            with pytest.raises(ValueError, match="id_test has no labels, which attacks need"):
                bench(id_test=unlabelled)
        (row, *_) = bench(id_test=x, attacks={}).evaluate(Mean())
        assert math.isnan(row["CleanAccuracy"])
        assert not row["Error"]
        with pytest.warns(UserWarning, match="id_train has no labels"):
            bench(id_train=zeros).evaluate(Mean(), fit=True)


def test_too_few_images_are_an_error_with_the_number():
    rows = bench(ood={"few": torch.rand(3, 1, 8, 8)}).evaluate(Mean())
    row = next(row for row in rows if row["Task"] == "T1")
    assert math.isnan(row["AUROC"])
    assert row["Error"] == "too few to say anything: 3 of few (min_images=10)"
    rows = bench(ood={"few": torch.rand(3, 1, 8, 8)}, min_images=3).evaluate(Mean())
    assert not any(row["Error"] for row in rows)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 7, "shuffle": True, "drop_last": True},
        {"sampler": range(50)},
        {"batch_sampler": [list(range(50)), [3, 1]]},
    ],
    ids=lambda options: ", ".join(options),
)
def test_scoring_is_in_order_and_whole(options):
    made = bench()
    expected = bench().evaluate(Mean(), {"batch_size": 9})
    rows = made.evaluate(Mean(), options, fit=True)
    assert [r["AUROC"] for r in rows] == [r["AUROC"] for r in expected]
    scores = made.scores["Mean"]["ID"]
    images = torch.stack([x for x, _ in made.id_test])
    torch.testing.assert_close(scores, images.mean(dim=(1, 2, 3)))


def test_fitting_may_be_shuffled():
    seen = []

    class Fitted(Mean):
        def fit(self, loader):
            seen.append(torch.cat([y for _, y in loader]))
            return self

    for options in ({}, {"shuffle": True}):
        bench().evaluate(Fitted(), options, fit=True)
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0].sort().values, seen[1].sort().values)


def test_images_are_rounded_to_8_bit_but_where_nothing_is_attacked():
    own = data()[1][0][0]
    rounded, _ = bench().id_test[0]
    assert not torch.equal(rounded, own)
    torch.testing.assert_close(rounded * 255, (rounded * 255).round())
    assert torch.equal(bench(attacks={}, round_id=False).id_test[0][0], own)
    with pytest.raises(ValueError, match=r"round_id=False.*compare_unrounded=True"):
        bench(round_id=False)
    assert bench(round_id=False, compare_unrounded=True).evaluate(Mean())


class TestFailures:
    def test_an_attack_that_fails_is_a_row(self, tmp_path):
        def fails(model, x, y):
            model.train()
            raise ArithmeticError("no attack\nof many lines")

        model = digits.trained()
        made = bench(
            {
                "fails": fails,
                "tuple": lambda m, x, y: (x, 1 - x, y > 0),
                "inv": invert,
                "weak": lambda m, x, y: x + 0.3 / 255,  # which rounding undoes
            }
        )
        with pytest.warns(UserWarning, match="Failure while attacking with fails: Arithmetic"):
            rows = made.evaluate({"mean": Mean(), "energy": EnergyBased(model)})
        assert not model.training
        failed = [row for row in rows if row["Attack"] == "fails"]
        assert {row["Error"] for row in failed} == {"attack fails: ArithmeticError: no attack"}
        assert {r["Error"] for r in rows if r["Attack"] == "weak"} == {"no images of weak"}
        good = {a: [r["AUROC"] for r in rows if r["Attack"] == a] for a in ("tuple", "inv")}
        assert good["tuple"] == good["inv"]
        assert not any(map(math.isnan, good["inv"]))
        text = made.save(tmp_path / "run")[1].read_text()
        assert "| fails | 0 | 0 | – |" in text
        assert "ArithmeticError: no attack |" in text

    @pytest.mark.parametrize("stored", [False, True])
    def test_images_that_cannot_be_read_are_a_row(self, tmp_path, stored):
        class Corrupt(Dataset):
            def __len__(self):
                return 20

            def __getitem__(self, index):
                if index == 15:
                    raise OSError("truncated file")
                return torch.rand(1, 8, 8), 0

        cache = tmp_path if stored else None
        ood, change = {"corrupt": Corrupt(), "noise": NOISE}, BenignChange("gamma", 0.5)
        made = bench(ood=ood, benign=[change], cache=cache)
        made.benign["gamma 0.5"] = lambda x, seed: 1 / 0
        with pytest.warns(UserWarning, match="Failure while reading images of corrupt"):
            rows = made.evaluate(Mean())
        errors = {(r["Task"], r["Dataset"]): r["Error"] for r in rows}
        assert "images of corrupt: OSError: truncated file" in errors["T1", "corrupt"]
        assert "images of gamma 0.5: ZeroDivisionError" in errors["T4", "gamma 0.5"]
        assert errors["T1", "noise"] == errors["T2", ""] == ""

    def test_what_cannot_be_used_is_told_at_once(self):
        with pytest.raises(TypeError, match=r"attack 'mine': .*cannot be called with"):
            bench({"mine": lambda x: x})

    def test_a_detector_that_changes_the_model_changes_it_for_itself_alone(self):
        model = digits.trained()

        class Retrains(Mean):
            def fit(self, loader):
                model.train()
                with torch.no_grad():
                    model[0].weight.mul_(2)
                return self

        alone = bench().evaluate({"energy": EnergyBased(model)}, fit=True)
        weights = model[0].weight.clone()
        with pytest.warns(UserWarning, match="The fit of bad changed weights"):
            rows = bench().evaluate({"bad": Retrains(), "energy": EnergyBased(model)}, fit=True)
        assert torch.equal(model[0].weight, weights)
        assert not model.training
        good = [row["AUROC"] for row in rows if row["Detector"] == "energy"]
        assert good == [row["AUROC"] for row in alone]


class TestOtherModels:
    def test_a_dictionary_of_outputs_needs_logits(self):
        packed = Packed(digits.trained(), lambda z: {"answer": z, "other": z}).eval()
        with pytest.raises(TypeError, match="logits="):
            bench(model=packed).evaluate(Mean())
        made = bench(model=packed, logits=lambda output: output["answer"])
        rows = made.evaluate({"mean": Mean(), "msp": MaxSoftmax(None)})
        plain = bench().evaluate({"mean": Mean(), "msp": MaxSoftmax(digits.trained())})
        assert [r["AUROC"] for r in rows] == [r["AUROC"] for r in plain]

    def test_one_output_is_judged_where_nothing_is_attacked(self, tmp_path):
        single = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        made = bench({}, model=single, cache=tmp_path)
        with pytest.warns(UserWarning, match="Scores are not kept"):
            rows = made.evaluate(Mean())
        assert math.isnan(rows[0]["CleanAccuracy"])
        assert not rows[0]["Error"]


def table(rows):
    """Rows without what a clock measured."""
    timed = ("SecondsPerImage", "FitSeconds")
    return [{n: repr(v) for n, v in row.items() if n not in timed} for row in rows]


def whole_run(folder):
    """A run with everything in it."""
    model = digits.trained()

    def noise(model, x, y):
        return (x + torch.rand_like(x) + random.random() * np.random.rand()).clamp(0, 1)

    attacks = {"invert": invert, "noise": noise, "three": as_attack(shift, by=3)}
    detectors = {
        "mean": Mean(),
        "kl": KLMatching(model),
        "energy": EnergyBased(model),
        "tv": ViyogTV(model),
    }
    ood = {"grey": torch.full((30, 1, 8, 8), 0.5), "dark": torch.zeros(30, 1, 8, 8)}
    made = bench(attacks, ood=ood, cache=folder, batch_size=10, resamples=20)
    return made.evaluate(detectors, fit=True)


def run_alone(folder):
    torch.set_num_threads(1)  # a forked process has no other threads
    whole_run(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_run_that_is_killed_ends_with_the_same_table(tmp_path):
    """Killed five times, each after a random number of files."""
    expected = table(whole_run(tmp_path / "whole"))
    draw, left = random.Random(0), []
    while len(left) < 5:
        process = multiprocessing.get_context("fork").Process(
            target=run_alone, args=(tmp_path / "killed",)
        )
        process.start()
        more = (left[-1] if left else 0) + draw.randint(1, 6)
        while process.is_alive() and len(list(tmp_path.glob("killed/*/*"))) < more:
            time.sleep(0.001)
        assert process.is_alive()
        process.kill()
        process.join()
        left.append(len(list(tmp_path.glob("killed/*/*"))))
    assert left == sorted(left)
    assert left[-1] < len(list(tmp_path.glob("whole/*/*")))
    assert table(whole_run(tmp_path / "killed")) == expected


def test_stored_scores_are_not_asked_for_again(tmp_path):
    asked = []

    class Counted(Mean):
        def predict(self, x):
            asked.append(len(x))
            return super().predict(x)

    made = bench(cache=tmp_path, batch_size=10)
    made.evaluate({"counted": Counted()})
    first = sum(asked)
    stored = {file: file.stat().st_mtime_ns for file in tmp_path.glob("scores-*/*.pt")}
    assert len(stored) > 6
    asked.clear()
    again = bench(cache=tmp_path, batch_size=10)
    again.evaluate({"counted": Counted()})
    assert sum(asked) == 4 * 10 < first  # the timing alone
    assert torch.equal(again.scores["counted"]["ID"], made.scores["counted"]["ID"])
    assert {file: file.stat().st_mtime_ns for file in stored} == stored


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", ["weights", "detector", "fit", "images", "batch"])
def test_scores_belong_to_all_they_depend_on(tmp_path, what):
    """A second run with something changed is as a first one."""

    def run(folder, changed):
        model = copy.deepcopy(digits.trained())
        if changed == "weights":
            model[0].weight.data *= 1.5
        (known, y), (x, labels) = data()
        part = slice(None, None, 2 if changed == "fit" else 1)
        x = x.flip(3) if changed == "images" else x
        options = {"cache": folder, "batch_size": 20 if changed == "batch" else 10}
        made = bench({}, (x, labels), model=model, id_train=(known[part], y[part]), **options)
        energy = EnergyBased(model, t=2.0 if changed == "detector" else 1.0)
        made.evaluate({"energy": energy, "kl": KLMatching(model)}, fit=True)
        return made.scores

    run(tmp_path / "a", "nothing")
    second, fresh = (run(tmp_path / folder, what) for folder in "ab")
    for detector, own in fresh.items():
        for name, scores in own.items():
            assert torch.equal(second[detector][name], scores)


def test_damaged_scores_are_computed_again(tmp_path):
    first = bench(cache=tmp_path, batch_size=10)
    first.evaluate({"mean": Mean()})
    for number, file in enumerate(sorted(tmp_path.glob("scores-*/*.pt"))):
        file.write_bytes([b"", b"no tensors", file.read_bytes()[:50]][number % 3])
    again = bench(cache=tmp_path, batch_size=10)
    with pytest.warns(UserWarning, match="damaged and computed again"):
        again.evaluate({"mean": Mean()})
    assert torch.equal(again.scores["mean"]["ID"], first.scores["mean"]["ID"])
