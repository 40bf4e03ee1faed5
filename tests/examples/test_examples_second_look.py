"""The benchmark of the second look on a tiny model: what it stores, its rows and its report."""

import sys
from importlib import import_module
from pathlib import Path

import pandas
import pytest
import torch
from attacked import attacked, id_images, trained
from torch import nn

pytest.importorskip("foolbox")
pytest.importorskip("skimage")
sys.path.append(str(Path(__file__).parents[2] / "examples" / "benchmarks"))
images = import_module("second_look_images")
report = import_module("second_look_report")
rows = import_module("second_look_rows")
scores = import_module("second_look_scores")

pytestmark = pytest.mark.filterwarnings("ignore:.*of the ID answers change")


class Head(nn.Module):
    """Pictures to logits, with a last linear layer and nothing else of the test's model."""

    def __init__(self):
        super().__init__()
        self.model = trained()

    def forward(self, x):
        return self.model(x)


@pytest.fixture(scope="module")
def material():
    model, (fit, _), (look, _) = Head().eval(), id_images(0), id_images(1)
    (calibration, _), (clean, labels) = id_images(2), id_images(3, 1)
    adv = {each: (attacked(model, clean[:12]), labels[:12]) for each in ("pgd8", "deepfool")}
    noise = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    groups, truth = images.grouped(clean, adv, {"noise images": noise}, 8)
    return images.Material("tiny", model, fit, look, calibration, groups, truth)


@pytest.fixture(scope="module")
def answers(material, tmp_path_factory):
    return scores.load_answers(material, tmp_path_factory.mktemp("cache"), True, False)


def test_groups_have_their_images(material):
    sizes = {name: len(x) for name, x in material.groups.items()}
    assert sizes["noise/8"] == 8
    assert sizes["ood/noise images"] == 12
    assert bool(
        (material.groups["noise/8"] * 255)
        .round()
        .isclose(material.groups["noise/8"] * 255, atol=1e-3)
        .all()
    )


def test_id_parts_are_disjoint():
    parts = images.id_parts(torch.arange(427))
    assert [len(each) for each in parts] == [142, 95, 190]
    assert len(torch.cat(parts).unique()) == 427


def test_every_group_is_judged_by_all(material, answers):
    for group, found in answers.groups.items():
        names = {*rows.DETECTORS, "changed", "overruled", "second"}
        assert names <= set(found)
        assert all(len(values) == len(material.groups[group]) for values in found.values())
    assert "right" in answers.groups["adv/pgd8"]
    assert "right" not in answers.groups["id"]


def test_an_interrupted_run_goes_on_where_it_stopped(material, tmp_path, monkeypatch):
    def stop(judges, material, group):
        if group != "id":
            raise KeyboardInterrupt
        return {"score": torch.ones(3)}

    monkeypatch.setattr(scores, "_found", stop)
    monkeypatch.setattr(scores, "fitted_judges", lambda *_: None)
    monkeypatch.setattr(scores, "_settings", lambda *_: {"choice": {}})
    with pytest.raises(KeyboardInterrupt):
        scores.load_answers(material, tmp_path, True, False)
    monkeypatch.setattr(
        scores, "_found", lambda judges, material, group: {"score": torch.zeros(3)}
    )
    found = scores.load_answers(material, tmp_path, True, False).groups
    assert float(found["id"]["score"].sum()) == 3, "this was stored"
    assert float(found["adv/pgd8"]["score"].sum()) == 0
    fresh = scores.load_answers(material, tmp_path, False, False).groups
    assert float(fresh["id"]["score"].sum()) == 0, "other settings, other results"


def test_rows_by_hand(answers):
    table = pandas.DataFrame(rows.rows("tiny", answers))
    found, known = answers.groups["adv/pgd8"], answers.groups["id"]
    larger = (found["SecondLook"][:, None] > known["SecondLook"]).double()
    equal = (found["SecondLook"][:, None] == known["SecondLook"]).double()
    wanted = float((larger + equal / 2).mean())
    read = report.value(table, "tiny", "SecondLook", "AUROC against ID", "pgd8")
    assert read == pytest.approx(wanted)
    share = float(known["overruled"].double().mean())
    changes = report.value(table, "tiny", "SecondLook", "answers that change", "id")
    assert changes == pytest.approx(share)


def test_the_report_marks_misses(answers):
    table = pandas.DataFrame(rows.rows("tiny", answers))
    text = report.report(table)
    assert "## Targets" in text
    assert "| tiny | SecondLook |" in text
    low = report.Target("name", "SecondLook", "m", ("a",), 0.9)
    assert low.cell([0.95, 0.91]) == "0.910"
    assert low.cell([0.95, 0.85]) == "**0.850**"
    assert report.Target("name", "SecondLook", "m", ("a",), high=0.02).cell([0.01]) == "0.010"
    assert report.Target("name", "SecondLook", "m", ("a",), 0.4, 0.6).cell([0.5]) == "0.50-0.50"
    assert low.cell([]) == "-"
