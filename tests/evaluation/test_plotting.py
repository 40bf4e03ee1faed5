"""Figures: what is drawn, and a clear error without matplotlib."""

import math
import sys

import pytest
import torch

plt = pytest.importorskip("matplotlib.pyplot")

from pytorch_ood_viyog.evaluation.plotting import plot_auroc, plot_scores  # noqa: E402


def row(detector, task, dataset, attack, auroc, error=""):
    names = {"Detector": detector, "Task": task, "Dataset": dataset, "Attack": attack}
    return {**names, "AUROC": auroc, "Error": error}


ROWS = [
    row("one", "T1", "aerial", "", 0.25),
    row("one", "T1", "mri", "", 0.75),
    row("one", "T2", "", "pgd8", 1.0),
    row("one", "T3", "aerial", "pgd8", 0.5),
    row("one", "T3", "mri", "pgd8", 0.1),
    row("two", "T1", "aerial", "", math.nan, "failed"),
    row("two", "T1", "mri", "", 0.5),
    row("two", "T2", "", "pgd8", math.nan, "failed"),
    row("two", "T3", "aerial", "pgd8", math.nan, "failed"),
    row("two", "T3", "mri", "pgd8", 0.3),
]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_heat_maps(drawn, tmp_path):
    assert is_png(plot_auroc(ROWS, tmp_path / "new" / "auroc.png", "title"))
    t1, t2, by_attack, by_set = drawn[0].axes
    assert texts(t1) == [".25", ".75", ".50", "–", ".50", ".50"]  # aerial, mri, mean
    assert texts(t2) == ["1.00", "1.00", "–", "–"]
    assert texts(by_attack) == [".30", ".30", ".30", ".30"]
    assert texts(by_set) == [".50", ".10", ".30", "–", ".30", ".30"]
    assert [label.get_text() for label in t1.get_yticklabels()] == ["one", "two"]
    assert [label.get_text() for label in by_set.get_xticklabels()] == ["aerial", "mri", "mean"]


def test_only_the_tasks_that_there_are(drawn, tmp_path):
    plot_auroc([r for r in ROWS if r["Task"] == "T1"], tmp_path / "auroc.png")
    assert len([axis for axis in drawn[0].axes if axis.get_visible()]) == 1


def test_distributions(drawn, tmp_path):
    scores = {
        "fine": {"ID": torch.randn(50), "aerial": torch.randn(30) + 3, "pgd": torch.randn(20) - 3},
        "half": {"ID": torch.randn(50), "aerial": "ValueError: no", "pgd": torch.zeros(20)},
        "flat": {"ID": torch.ones(5), "aerial": torch.ones(5), "pgd": torch.ones(5)},
        "wild": {"ID": torch.tensor([1.0, 2.0, torch.inf]), "aerial": torch.zeros(0), "pgd": "no"},
        "lost": dict.fromkeys(("ID", "aerial", "pgd"), "ValueError: no"),
        "more": {"ID": torch.randn(9)},
    }
    kinds = {"ID": ["ID"], "OOD": ["aerial"], "ADV": ["pgd"]}
    assert is_png(plot_scores(scores, kinds, tmp_path / "scores.png"))
    shown = [axis for axis in drawn[0].axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == list(scores)
    assert texts(shown[4]) == ["failed"]


def test_without_matplotlib(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'pytorch-ood-viyog\[examples\]'"):
        plot_auroc(ROWS, tmp_path / "auroc.png")
