"""Adversarial examples: rounding, success filter, resuming, cache keys, adapters."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from flat_images import Bright
from torch import Tensor, nn

from pytorch_ood_viyog.benchmark.attacks import (
    AdversarialExamples,
    Attack,
    FoolboxAttack,
    craft,
    round_to_8_bit,
)


class Brightness(Bright):
    """Counts how often it is called."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Shift:
    """Moves all pixels by a constant: up for class 0, down for class 1."""

    def __init__(self, step: float, fail_after: int | None = None) -> None:
        self.step = step
        self.calls = 0
        self.fail_after = fail_after

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if self.calls == self.fail_after:
            raise KeyboardInterrupt
        self.calls += 1
        return x + self.step * (1 - 2 * y.view(-1, 1, 1, 1))

    def __repr__(self) -> str:
        return f"Shift({self.step})"


def grey(*levels: int) -> Tensor:
    """Flat 1×2×2 images of the given 8-bit levels."""
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 1, 2, 2) / 255


X = grey(100, 120, 126, 127, 128, 150, 130)
Y = torch.tensor([0, 0, 0, 0, 1, 1, 0])  # the last one is misclassified without an attack


def run(attack: Attack, model: nn.Module | None = None, **options: object) -> AdversarialExamples:
    options = {"x": X, "y": Y, "batch_size": 3, "progress": False} | options
    return craft(model or Brightness(), attack, **options)  # type: ignore[arg-type]


def test_rounding_gives_multiples_of_one_255th_within_the_range() -> None:
    x = torch.tensor([-0.2, 0.4 / 255, 0.6 / 255, 100.49 / 255, 1.3])
    assert torch.equal(round_to_8_bit(x), torch.tensor([0.0, 0, 1, 100, 255]) / 255)


def test_only_correct_images_that_change_class_are_kept_with_their_size() -> None:
    """
    The threshold 0.5 lies between the levels 127 and 128. A step of 2 takes 126 to 128 and 127
    to 129 (class 1), 128 to 126 (class 0); 100, 120 and 150 keep their class; 130 with label 0
    was wrong before.
    """
    result = run(Shift(2 / 255))
    assert result.index.tolist() == [2, 3, 4]
    assert result.y.tolist() == [0, 0, 1]
    torch.testing.assert_close(result.x, grey(128, 129, 126))
    assert (result.size.attacked, result.size.succeeded) == (6, 3)
    assert result.size.success_rate == 0.5
    assert result.size.linf == pytest.approx(2, abs=1e-4)
    assert result.size.rms == pytest.approx(2, abs=1e-4)


def test_success_is_judged_after_rounding() -> None:
    """The threshold is 127.3: 127 + 0.4 is beyond it but stored as 127, 127 + 0.6 as 128."""
    model = Brightness(127.3 / 255)
    result = run(Shift(0.4 / 255), model, x=grey(127), y=torch.tensor([0]))
    assert len(result.x) == 0
    assert result.size.attacked == 1
    assert np.isnan(result.size.linf)
    result = run(Shift(0.6 / 255), model, x=grey(127), y=torch.tensor([0]))
    assert torch.equal(result.x, grey(128))


def test_rms_and_linf_differ_for_a_change_of_one_pixel() -> None:
    def one_pixel(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        changed = x.clone()
        changed[:, :, 0, 0] += 8 / 255
        return changed

    size = run(one_pixel, x=grey(126), y=torch.tensor([0])).size
    assert size.linf == pytest.approx(8, abs=1e-4)
    assert size.rms == pytest.approx(4, abs=1e-4)  # sqrt(8² / 4)


def test_second_run_calls_no_attack_and_checks_its_successes_again(tmp_path: Path) -> None:
    first = run(Shift(2 / 255), cache=tmp_path)
    model, attack = Brightness(), Shift(2 / 255)
    second = run(attack, model, cache=tmp_path)
    assert (model.calls, attack.calls) == (1 + 3, 0)  # a few images for the key, three batches
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.index, second.index)
    assert first.size == second.size


def test_interrupted_run_resumes_after_the_last_batch(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Shift(2 / 255, fail_after=2), cache=tmp_path, x=X[:6], y=Y[:6], batch_size=2)
    model, attack = Brightness(), Shift(2 / 255)
    resumed = run(attack, model, cache=tmp_path, x=X[:6], y=Y[:6], batch_size=2)
    assert attack.calls == 1  # two of three batches were on disk
    # a few images for the key, two batches checked again; one image to see what the model gives;
    # of one batch the clean images and the attacked ones, before and after rounding
    assert model.calls == 1 + 2 + 1 + 3
    assert torch.equal(resumed.x, run(Shift(2 / 255), x=X[:6], y=Y[:6]).x)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:200]),
        lambda file: file.write_text("no tensors here"),
        lambda file: torch.save((torch.zeros(1),) * 3, file),
        lambda file: torch.save({"x": 1}, file),
        lambda file: torch.save([1, 2, 3], file),
    ],
    ids=["empty", "cut", "text", "wrong shape", "not three", "no tensors"],
)
def test_damaged_files_are_computed_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    expected = run(Shift(2 / 255), cache=tmp_path)
    file = sorted(tmp_path.rglob("*.pt"))[1]
    damage(file)
    attack = Shift(2 / 255)
    with pytest.warns(UserWarning, match="damaged"):
        repaired = run(attack, cache=tmp_path)
    assert attack.calls == 1
    assert torch.equal(repaired.x, expected.x)
    run(attack, cache=tmp_path)
    assert attack.calls == 1


def test_files_that_are_left_half_written_are_ignored(tmp_path: Path) -> None:
    run(Shift(2 / 255), cache=tmp_path)
    file = sorted(tmp_path.rglob("*.pt"))[0]
    file.rename(file.with_suffix(".partial-1"))
    attack = Shift(2 / 255)
    run(attack, cache=tmp_path)
    assert attack.calls == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"model": Brightness(0.4999)},
        {"x": X.roll(1, 0)},
        {"y": Y.roll(1)},
        {"attack": Shift(3 / 255)},
        {"name": "other"},
        {"batch_size": 4},
        {"seed": 1},
        {"key": "other"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_everything_that_changes_the_result_changes_the_key(
    tmp_path: Path, changed: dict[str, object]
) -> None:
    run(Shift(2 / 255), cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    run(**({"attack": Shift(2 / 255)} | changed), cache=tmp_path)  # type: ignore[arg-type]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": X * 255}, r"in \[0, 1\].* to 126"),
        ({"x": (X * 255).to(torch.uint8)}, "uint8"),
        ({"x": X.where(X < 0.5, torch.nan)}, "nan"),
        ({"y": Y[:3]}, r"\(3,\)"),
        ({"x": X[:0], "y": Y[:0]}, "N > 0"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(Shift(2 / 255), **options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_foolbox_attack_with_a_budget_and_without() -> None:
    attacks = pytest.importorskip("foolbox").attacks
    fgsm = FoolboxAttack(attacks.FGSM(), 2 / 255)
    assert run(fgsm).index.tolist() == [2, 3, 4]
    deepfool = FoolboxAttack(attacks.L2DeepFoolAttack(overshoot=0.5))
    result = run(deepfool)
    # the boundary at 127.5 is near; from 100 the step ends at 127.5 + 0.5 · 27.5
    assert result.index.tolist() == [0, 1, 2, 3, 4, 5]
    assert result.x[0].mean() * 255 == pytest.approx(100 + 1.5 * 27.5, abs=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_settings_of_a_foolbox_attack_are_part_of_the_key(tmp_path: Path) -> None:
    attacks = pytest.importorskip("foolbox").attacks
    for attack in (
        FoolboxAttack(attacks.LinfPGD(steps=2), 2 / 255),
        FoolboxAttack(attacks.LinfPGD(steps=2), 2 / 255),
        FoolboxAttack(attacks.LinfPGD(steps=3), 2 / 255),
        FoolboxAttack(attacks.LinfPGD(steps=2), 4 / 255),
    ):
        run(attack, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_missing_foolbox_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(ImportError, match=r"pytorch-ood-viyog\[foolbox\]"):
        FoolboxAttack(None)
