"""A report worked out by hand."""

import pytest
import torch

from pytorch_ood_viyog.triage.populations.verdict import Verdict
from pytorch_ood_viyog.triage.report import TriageReport

ID = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, -1])
OOD = torch.tensor([1, 1, 1, 0])
ADV = torch.tensor([-1, -1, -1, -1, 1])


def test_verdicts_are_the_labels_of_the_field():
    assert [int(v) for v in (Verdict.ID, Verdict.OOD, Verdict.ADV)] == [0, 1, -1]
    assert Verdict.NOISY == 2  # no label of the field: noisy images keep that of their content


def test_report_by_hand():
    report = TriageReport.of(ID, OOD, ADV)
    assert report.confusion.tolist() == [[8, 1, 1, 0], [1, 3, 0, 0], [0, 1, 4, 0]]
    assert report.recall == {Verdict.ID: 0.8, Verdict.OOD: 0.75, Verdict.ADV: 0.8}
    assert report.balanced_accuracy == pytest.approx((0.8 + 0.75 + 0.8) / 3)
    assert report.id_false_alarm_rate == pytest.approx(0.2)
    assert report.share(Verdict.ADV, Verdict.OOD) == pytest.approx(0.2)
    assert report.share(Verdict.OOD, Verdict.ID) == pytest.approx(0.25)
    lines = str(report).splitlines()
    assert lines[2].split() == ["OOD", "25.0%", "75.0%", "0.0%", "0.0%", "4"]
    assert lines[4] == "balanced accuracy 0.783, ID false alarms 20.0%"


def test_noisy_samples_have_a_row_of_their_own():
    report = TriageReport.of(ID, OOD, ADV, torch.tensor([2, 2, 0, -1]))
    assert report.confusion[3].tolist() == [1, 0, 1, 2]
    assert report.recall[Verdict.NOISY] == 0.5
    assert report.share(Verdict.NOISY, Verdict.ADV) == 0.25
    assert report.balanced_accuracy == pytest.approx((0.8 + 0.75 + 0.8 + 0.5) / 4)
    assert str(report).splitlines()[4].split()[0] == "NOISY"
    assert Verdict.NOISY not in TriageReport.of(ID, OOD, ADV).recall


@pytest.mark.parametrize("bad", [torch.empty(0), torch.tensor([0, 3])])
def test_anything_but_verdicts_is_refused(bad):
    with pytest.raises(ValueError, match="ood must hold verdicts"):
        TriageReport.of(ID, bad, ADV)


def test_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = TriageReport.of(ID, OOD, ADV).plot()
    assert [text.get_text() for text in axes.texts][:2] == ["80.0%\n8", "10.0%\n1"]
    assert axes.get_title() == "balanced accuracy 0.783"
