"""The table of other people's attacks, on what is installed."""

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import digits
import pytest
import torch
from pytorch_ood.detector import EnergyBased, MaxSoftmax
from torch import nn

from pytorch_ood_viyog.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.benchmark.attacks import AttackSize, as_attack

sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))


@pytest.fixture
def foreign():
    pytest.importorskip("foolbox")
    return import_module("foreign")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_attacks_of_missing_libraries_are_told(foreign, monkeypatch):
    missing = ("torchattacks", "art", "adv_lib", "secmlt")
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    attacks, problems = foreign.foreign_attacks(digits.trained(), digits.trained(), (1, 8, 8), 10)
    assert len(attacks) > 25
    assert {name.split()[0] for name in attacks} == {"foolbox", "pytorch-ood-viyog"}
    assert all(as_attack(attack) is attack for attack in attacks.values())  # made already
    assert len(problems) == len(missing)
    assert all(why.startswith("not installed: ") for why in problems.values())


def test_scores_of_other_sources_are_forgotten(foreign, tmp_path):
    for name in ("scores-1", "foolbox PGD-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "scores_by.txt").write_text("other")
    foreign.forget_old_scores(tmp_path)
    assert not (tmp_path / "scores-1").exists()
    (tmp_path / "scores-2").mkdir()
    foreign.forget_old_scores(tmp_path)
    assert (tmp_path / "scores-2").is_dir()
    assert (tmp_path / "foolbox PGD-1").is_dir()


@pytest.mark.filterwarnings("ignore:Failure while attacking")
def test_the_page_has_a_row_for_each_and_the_worst_first(foreign, tmp_path):
    def endless(model, x, y):
        print("not shown")
        while True:
            x = x + 0

    def unseen(model, x, y):
        return x.flip(2)

    def seen(model, x, y):
        return torch.rand_like(x)

    _, (x, y) = digits.images()
    model = digits.trained()
    attacks = {"seen": seen, "endless": endless, "unseen": unseen}
    bench = AdversarialBenchmark(
        model,
        (x[:80], y[:80]),
        {},
        {n: foreign.Limited(a, 0.2, tmp_path / f"{n}.txt") for n, a in attacks.items()},
        resamples=0,
        progress=False,
    )
    bench.evaluate([MaxSoftmax(model), EnergyBased(model)])
    triage = SimpleNamespace(predict=lambda x: torch.where(x.mean((1, 2, 3)) > 0.35, -1, 0))
    page = foreign.page(
        bench,
        {"other": "not installed"},
        bench.verdicts(triage),
        SimpleNamespace(attacked=80, seconds=1, test=9, verdicts=True, libraries=["foolbox"]),
    )
    table = page.partition("## By kind")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert sorted(row.split(" | ")[0] for row in rows) == ["| endless", "| seen", "| unseen"]
    assert rows[-1].startswith("| endless | 0 of 0 | 0 |")
    assert rows[-1].endswith("| TimeoutError: over 0.2 s of CPU, stopped |")
    best = [max(float(cell.split(" / ")[0]) for cell in row.split(" | ")[6:8]) for row in rows[:2]]
    assert best == sorted(best)
    seen = next(row for row in rows if row.startswith("| seen")).split(" | ")
    assert seen[8:12] == ["0%", "0%", "100%", "0%"]  # ID, OOD, ADV, NOISY
    assert "3 attacks of foolbox, of which 2 ran to their end" in page
    assert "| large | 2 |" in page
    assert "MaxSoftmax is blind (below 0.8)" in page
    assert "- other: not installed" in page
    # what failed is not tried again
    again = foreign.Limited(lambda model, x, y: x, 1, tmp_path / "endless.txt")
    with pytest.raises(RuntimeError, match="over 0\\.2 s of CPU"):
        again(model, x, y)


def test_squeezed_images_are_answered_otherwise(foreign):
    pytest.importorskip("skimage")
    squeezing = import_module("feature_squeezing").FeatureSqueezing
    one_grain, flat = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    one_grain[..., 3, 3] = 1  # which the median removes, and then the other class is answered
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([torch.ones(64), -torch.ones(64)]))
        model[1].bias.zero_()
    p = torch.tensor([1.0, -1.0]).double().softmax(0)
    expected = float((p - 0.5).abs().sum())
    torch.testing.assert_close(
        squeezing(model)(torch.cat([one_grain, flat])), torch.tensor([expected, 0.0]).double()
    )


def test_kinds_are_by_what_is_measured(foreign):
    report = import_module("foreign_report")

    def size(linf, l2, pixels):
        return AttackSize(9, 9, linf, 1.0, l2=l2, pixels=pixels)

    assert report.kind(size(200, 3, 0.1)).startswith("sparse")
    assert report.kind(size(8, 2, 1)) == "L∞ up to 8/255"
    assert report.kind(size(30, 0.5, 0.9)) == "L2 up to 1"
    assert report.kind(size(30, 5, 0.9)) == "large"


def test_transferred_attack_asks_the_other_model_alone(foreign):
    _, (x, y) = digits.images()
    attack = import_module("foreign_list").Transferred(lambda m, x, y: x + m(x), nn.Identity())
    torch.testing.assert_close(attack(None, x, y), 2 * x)
