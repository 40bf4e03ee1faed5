"""The page of a benchmark that is worked out by hand."""

import math

import digits
import pytest
import torch
from flat_images import Bright, Mean, brighten, flat
from networks import SmallNet, build
from pages import check_self_contained
from pytorch_ood.detector import EnergyBased
from torch import nn

from pytorch_ood_viyog import Triage
from pytorch_ood_viyog.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.benchmark.report import best_detector, summary
from pytorch_ood_viyog.images import BenignChange

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


class Mapper(Mean):
    """Sees a residue of 2/255 everywhere."""

    model = "a model"

    def residue_map(self, x):
        return torch.full((len(x), 4, 4), 2 / 255)


def bench(attacks, **options):
    known = flat(*[i / 100 for i in range(40)])
    labels = torch.zeros(40, dtype=torch.int64)
    return AdversarialBenchmark(
        Bright().eval(),
        (known, labels),
        {"<i>dusk</i>": flat(0.1, 0.6, 0.75), "noon": flat(0.95)},
        attacks,
        resamples=0,
        min_images=1,
        progress=False,
        **options,
    )


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """ID 0 to .39, attacked .505 to .845; OOD .1, .6 and .75 (dusk), .95 (noon)."""
    made = bench({"brighten": brighten(0.455)}, benign=[BenignChange("contrast", 0.5)])
    made.evaluate({"dark": Mapper(-1), "bright": Mean(1), "nan": Mean(math.nan)})
    path = made.report(tmp_path_factory.mktemp("page") / "report.html", title="By hand")
    return made, check_self_contained(path)


def test_the_best_detector_is_the_one_on_the_tasks_with_adv(judged):
    rows = judged[0].rows
    assert best_detector(rows, "ADV") == "bright"
    assert best_detector([row for row in rows if row["Error"]], "ADV") is None
    assert best_detector([row for row in rows if row["Detector"] == "dark"], "OOD") == "dark"


def test_tasks_count_the_same_whatever_the_number_of_their_sets():
    def rows(name, task, *values):
        return [{"Detector": name, "Task": task, "AUROC": v, "Error": ""} for v in values]

    one = rows("one", "T2", 0.9) + rows("one", "T3", 0.5, 0.5, 0.5)
    other = rows("other", "T2", 0.6) + rows("other", "T3", 0.7, 0.7, 0.7)
    assert best_detector(one + other, "ADV") == "one"


def test_summary(judged):
    made, page = judged
    sentences = summary(made.rows, made.attack_sizes())
    assert sentences[0] == (
        "3 detectors judged ID images, 2 OOD sets and 1 attack with 35 adversarial images, 1 of "
        "them with errors."
    )
    # .505 to .845 against .1, .6, .75 and .95: brighter than 35, 25 and 10 of them, and none
    dusk = (35 + 25 + 10) / (3 * 35)
    assert sentences[1].startswith("bright tells ADV images apart best: mean AUROC 1.000 on ID")
    assert sentences[1].endswith(f"{dusk / 2:.3f} on OOD-vs-ADV.")
    assert sentences[2] == "It is weakest on OOD-vs-ADV, brighten against noon, with 0.000."
    assert page.texts("p", class_="summary") == [" ".join(sentences)]


def test_what_is_not_told_from_benign_changes_is_told(judged):
    made, _ = judged
    rows = [row | {"AUROC": 0.2} if row["Task"] == "T3" else row for row in made.rows]
    rows = [row | {"AUROC": 0.1} if row["Task"] == "T4" else row for row in rows]
    told = "It is weakest on benign-vs-ADV, brighten against contrast 0.5 times, with 0.100."
    assert summary(rows, made.attack_sizes())[2] == told


def test_results_figures_and_errors_are_on_the_page(judged):
    _, page = judged
    kinds = ["ID images", "OOD images", "ADV images", "NOISY images"]
    head = ["Results", "Figures", "Errors", *kinds, "How this page was made"]
    assert page.texts("h2") == head
    assert "detector<i>dusk</i>noonmean" in page.texts("tr")
    assert any(text.startswith("nan: ValueError: 40 scores") for text in page.texts("p"))
    assert len(page.all("figure", class_="wide")) == 2
    assert "modelBright" in page.texts("tr")


def test_images_are_judged_by_the_best_detector_alone(judged):
    _, page = judged
    cards = page.texts("article")
    # the limit is that of the 39th of 40 ID images
    assert cards[0].startswith("ID image 39 taken for ADV ✗ wrong")
    assert cards[0].endswith("bright alarm0.38820.38040.049 dark-0.3882–1.000")
    assert cards[1].startswith("ID image 0 not taken for ADV ✓ right")
    titles = [text for text in page.texts("h3") if " image " in text]
    assert titles[:5] == [f"ID image {i}" for i in (39, 0, 1, 2, 3)]
    # mistakes by score, the others by place
    assert titles[5:9] == ["noon image 0", *(f"<i>dusk</i> image {i}" for i in (2, 1, 0))]
    assert titles[9:13] == [f"brighten image {i}" for i in range(4)]
    assert titles[13:] == [f"contrast 0.5 times image {i}" for i in (39, 38, 37, 36, *range(4))]
    captions = page.texts("figcaption")
    assert captions == ["residue in 1/255, black 0 to bright 16: median 2.0, most 2.0"] * len(
        titles
    )
    verdicts = page.texts("p", class_="verdict")
    assert [text[-7:] for text in verdicts[5:9]] == ["✗ wrong"] * 3 + ["✓ right"]


def test_without_attacks_ood_images_should_raise_the_alarm(tmp_path):
    made, path = bench({}), tmp_path / "report.html"
    with pytest.raises(RuntimeError, match=r"Call evaluate\(\) first"):
        made.report(path)
    made.evaluate({"bright": Mean(1)})
    with pytest.raises(ValueError, match=r"there are none of \['ADV'\]"):
        made.report(path, triage=Triage(build(SmallNet)))
    page = check_self_contained(made.report(path))
    assert page.texts("h2")[2:4] == ["ID images", "OOD images"]
    assert "<i>dusk</i> image 0 not taken for OOD ✗ wrong" in page.texts("article")[5]


def test_where_all_detectors_fail_there_are_no_images(tmp_path):
    made = bench({})
    made.evaluate({"nan": Mean(math.nan)})
    page = check_self_contained(made.report(tmp_path / "report.html"))
    assert "No detector gave scores." in page.texts("p", class_="summary")[0]
    assert not page.all("article")


class FailsOnDark(Mean):
    """The best of all, but not on ID images."""

    def predict(self, x):
        if x.min() == 0:
            raise ValueError("too dark")
        return super().predict(x)


def test_a_detector_that_fails_on_id_images_judges_none(tmp_path):
    made = bench({"brighten": brighten(0.455)})
    with pytest.warns(UserWarning, match="too dark"):
        made.evaluate({"dark": Mean(-1), "new": FailsOnDark(-1)})
    assert best_detector(made.rows, "ADV") == "new"
    page = check_self_contained(made.report(tmp_path / "report.html"))
    assert page.texts("article")[0].startswith("ID image 0 taken for ADV")


def test_a_triage_gives_its_verdicts(tmp_path):
    (x, y), (held, labels) = digits.images()
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    model = digits.by_least_squares(nn.Sequential(*layers), x, y)
    triage = Triage(model, id_fpr=0.1, noisy_fpr=0.1, look="never")
    triage.fit([(x, y)], [held[:150]], progress=False)
    made = AdversarialBenchmark(
        model,
        (held[150:200], labels[150:200]),
        {"half": held[:2] / 2, "noise": torch.rand(20, 1, 8, 8)},
        {"turn": lambda model, x, y: x.flip(2), "mirror": lambda model, x, y: x.flip(3)},
        resamples=0,
        min_images=1,
        progress=False,
    )
    made.evaluate({"energy": EnergyBased(model)})
    page = check_self_contained(made.report(tmp_path / "report.html", triage=triage))
    heads = ["Triage", "Verdicts", "Scores", "The way images came"]
    heads += ["ID samples", "OOD samples", "ADV samples"]
    assert page.texts("h2")[2:-1] == heads
    noise = [t for t in page.texts("h3") if t.startswith("noise sample")]
    assert noise
    assert all(int(title.split()[-1]) < 20 for title in noise)
    shares = [row for row in page.texts("tr") if row.startswith("ID") and row.endswith("%50")]
    assert len(shares) == 1  # all 50 ID images have a verdict
