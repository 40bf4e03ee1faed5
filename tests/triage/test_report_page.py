"""Which samples a report keeps, and the page that it writes."""

import base64
import io

import numpy as np
import pytest
import torch
from pages import check_self_contained

from pytorch_ood_viyog.triage.explanation import Explanation
from pytorch_ood_viyog.triage.populations.verdict import Verdict
from pytorch_ood_viyog.triage.report import JudgedClass, JudgedSample, TriageReport, residue_at

EVIL = "<script>gate</script>"


def explained(verdicts, p_values):
    """One piece of evidence that speaks against ID, one that is not known of all."""
    p_values = torch.tensor(p_values, dtype=torch.float64)
    asked = torch.tensor([v == -1 for v in verdicts])
    against = torch.stack([0 * p_values, 1 / p_values, 1 / p_values, 0 * p_values], dim=1)
    return Explanation(
        verdicts=torch.tensor(verdicts),
        posterior=torch.stack([p_values, (1 - p_values) / 2, (1 - p_values) / 2, 0 * p_values], 1),
        scores={EVIL: 1 - p_values, "look": p_values.masked_fill(~asked, torch.nan)},
        log_odds={EVIL: against, "look": (against / 2).masked_fill(~asked[:, None], torch.nan)},
        p_values={"OOD": p_values, "ADV": 2 * p_values, "NOISY": torch.ones_like(p_values)},
        second=torch.tensor([7 if v == -1 else -1 for v in verdicts]),
        first=torch.arange(len(verdicts)),
    )


def judged(truth, *batches):
    found = JudgedClass(truth)
    for verdicts, p_values in batches:
        count = len(verdicts)
        start = len(found.verdicts)
        x = (torch.arange(start, start + count).view(-1, 1, 1, 1) / 20).expand(-1, 3, 8, 8)
        found.take(x, explained(verdicts, p_values), np.zeros((count, 2)))
    return found


@pytest.fixture(scope="module")
def classes():
    return [
        judged(
            Verdict.ID,
            ([0, 1, 0, -1], [0.5, 0.04, 0.6, 0.01]),
            ([-1, 0, 2, 0, 1, 0], [0.02, 0.3, 0.03, 0.9, 0.05, 0.8]),
        ),
        judged(Verdict.OOD, ([1, 0, 0], [0.02, 0.9, 0.3])),
        judged(Verdict.ADV, ([1, 0, -1], [0.01, 0.2, 0.02])),
    ]


@pytest.fixture(scope="module")
def report(classes):
    samples = tuple(sample for each in classes for sample in each.samples)
    scores = {n: {c.truth.name: c.scores[n] for c in classes} for n in classes[0].scores}
    known = {"scores": scores, "samples": samples, "id_fpr": 0.05, "seed": 3}
    return TriageReport.of(*(c.verdicts for c in classes), rule="the <b>rule</b>", **known)


def test_worst_mistakes_come_first_and_then_the_first_right_ones(classes):
    known, ood, adv = ([(s.number, int(s.verdict)) for s in each.samples] for each in classes)
    # of ID, the most unusual: p of .01, .02, .03, .04, and not of .05
    assert known == [(3, -1), (4, -1), (6, 2), (1, 1), (0, 0), (2, 0), (5, 0), (7, 0)]
    # of OOD and ADV, the most ordinary
    assert ood == [(1, 0), (2, 0), (0, 1)]
    assert adv == [(1, 0), (0, 1), (2, -1)]


def test_a_sample_carries_what_is_its_own(classes):
    sample = classes[0].samples[1]
    assert torch.equal(sample.x, torch.full((3, 8, 8), 4 / 20))
    assert sample.x.untyped_storage().nbytes() == 3 * 8 * 8 * 4  # not all of the batch
    assert float(sample.explanation.p_values["OOD"]) == 0.02
    assert float(sample.explanation.least_p) == 0.02
    assert float(sample.explanation.scores[EVIL]) == pytest.approx(0.98)
    assert sample.explanation.strongest(0) == [(EVIL, 50.0), ("look", 25.0)]
    assert sample.explanation.second_answer(0) == "asked again: class 7, at first 0"
    assert not sample.right


def test_all_verdicts_and_scores_are_kept(classes, report):
    assert classes[0].verdicts.tolist() == [0, 1, 0, -1, -1, 0, 2, 0, 1, 0]
    assert report.confusion.tolist() == [[5, 2, 2, 1], [2, 1, 0, 0], [1, 1, 1, 0]]
    assert list(report.scores) == ["ID odds", "OOD odds", "ADV odds", "NOISY odds"]
    odds = torch.tensor([0.01, 0.2, 0.02], dtype=torch.float64).logit()
    torch.testing.assert_close(torch.as_tensor(report.scores["ID odds"]["ADV"]), odds)


def test_summary_in_three_sentences(report):
    assert report.summary == (
        "Of 10 ID samples, 50.0% raised an alarm; at most 5% of new ones were asked for.",
        "Of 3 OOD samples 33.3% were recognised, of 3 ADV samples 33.3% were recognised (balanced "
        "accuracy 0.389).",
        "The most frequent mistake is OOD taken for ID, 66.7% of the OOD samples.",
    )


def test_no_mistake_and_no_promise_are_told():
    summary = TriageReport.of(*(torch.tensor([v]) for v in (0, 1, -1))).summary
    assert summary[0] == "Of 1 ID samples, 0.0% raised an alarm."
    assert summary[2] == "There was no mistake."


def test_page(report, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page = check_self_contained(report.save(tmp_path / "report.html", "Digits & <letters>"))
    assert page.texts("h1") == ["Digits & <letters>"]
    assert page.texts("p", class_="summary") == [" ".join(report.summary)]
    kinds = ["ID samples", "OOD samples", "ADV samples"]
    assert page.texts("h2") == ["Verdicts", "Scores", *kinds, "How this page was made"]
    assert page.texts("pre") == ["the <b>rule</b>"]
    assert page.texts("tr")[2] == "OOD66.7%33.3%0.0%0.0%3"
    cards = page.all("article")
    assert [card["class"] for card in cards[:5]] == ["card wrong"] * 4 + ["card right"]
    assert len(cards) == 14
    assert page.texts("h3")[1:3] == ["ID sample 3", "ID sample 4"]
    assert [img["alt"] for img in page.all("img")][1:3] == ["ID sample 3", "ID sample 4"]
    assert any(row.startswith(f"{EVIL} speaks by100") for row in page.texts("tr"))
    assert any(row.startswith("OOD odds") for row in page.texts("tr"))
    assert page.texts("p", class_="note") == [
        f"asked again: class 7, at first {first}" for first in (3, 0, 2)
    ]
    assert "seed of Triage3" in page.texts("tr")
    assert page.texts("p")[-1] != ""


@pytest.fixture
def page_of(report, tmp_path):
    """The page of samples, called with them."""
    pytest.importorskip("jinja2")

    def write(*samples):
        made = TriageReport(report.confusion, samples=samples)
        return check_self_contained(made.save(tmp_path / "report.html"))

    return write


def test_residue_maps_are_beside_the_images(page_of):
    pytest.importorskip("matplotlib")
    x, one = torch.zeros(3, 8, 8), explained([-1], [0.01]).sample(0)
    own = torch.full((2, 2), 6 / 255)
    page = page_of(JudgedSample(Verdict.ADV, 3, x, one, residue=own, source="pgd8"))
    told = ["pgd8 sample 3", "Residue at each place of pgd8 sample 3"]
    assert [img["alt"] for img in page.all("img")] == told
    caption = "residue in 1/255, black 0 to bright 16: median 6.0, most 6.0"
    assert page.texts("figcaption") == [caption]


class Mapper:
    """Sees a residue of 2/255 everywhere."""

    def __init__(self, model="a model"):
        self.model = model

    def residue_map(self, x):
        return torch.full((len(x), *(side // 2 for side in x.shape[2:])), 2 / 255)


def test_the_first_detector_that_maps_residues_is_asked():
    x = torch.rand(3, 8, 6)
    found = residue_at([object(), Mapper(None), Mapper()], x)
    assert torch.equal(found, torch.full((4, 3), 2 / 255))
    assert residue_at([object(), Mapper(None)], x) is None
    assert residue_at([Mapper()], torch.rand(1, 30)) is None


def test_normalised_images_of_several_sizes_are_shown_in_their_own_range(page_of):
    image = pytest.importorskip("PIL.Image")
    one = explained([0], [0.5]).sample(0)
    low, high = (torch.tensor(v).view(3, 1, 1).float() for v in ([-2, -3, -4], [2, 3, 4]))
    inputs = low.expand(3, 4, 6), high.expand(3, 8, 4)
    page = page_of(*(JudgedSample(Verdict.ID, i, x, one) for i, x in enumerate(inputs)))
    shown = [img["src"].split(",")[1] for img in page.all("img")]
    black, white = (image.open(io.BytesIO(base64.b64decode(content))) for content in shown)
    assert (black.size, black.getextrema()) == ((6, 4), ((0, 0),) * 3)
    assert (white.size, white.getextrema()) == ((4, 8), ((255, 255),) * 3)


def test_signals_are_not_drawn_as_images(page_of):
    one = explained([0], [0.5]).sample(0)
    page = page_of(JudgedSample(Verdict.ID, 0, torch.zeros(1, 30), one))
    assert page.all("article")
    assert not page.all("img")
