"""The discriminant against scikit-learn's own predictions."""

import numpy as np
import pytest
import torch
from networks import SmallNet, build
from pytorch_ood.api import RequiresFittingException
from pytorch_ood.detector import EnergyBased, Mahalanobis
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from pytorch_ood_viyog import ViyogTV
from pytorch_ood_viyog.triage.lda import TriageLDA
from pytorch_ood_viyog.triage.verdict import Verdict


def smooth(count, seed):
    x = torch.rand(count, 3, 10, 10, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)


def rough(count, seed):
    noise = torch.rand(count, 3, 10, 10, generator=torch.Generator().manual_seed(seed))
    return smooth(count, seed) + noise


TRAIN = [(smooth(100, 1), torch.arange(100) % 5)]
PARTS = (smooth(60, 2), 4 * smooth(50, 3), rough(40, 4))


def make():
    model = build(SmallNet)
    detectors = {"energy": EnergyBased(None), "maha": Mahalanobis(None), "tv": ViyogTV(None)}
    return TriageLDA(model, detectors)


@pytest.fixture(scope="module")
def lda():
    return make().fit(TRAIN, *PARTS)


def test_verdicts_equal_scikit_learns(lda):
    def scores(x):
        table = lda.pipeline.predict(x)
        return np.stack([table[name].double().numpy() for name in lda.pipeline.detectors], axis=1)

    labels = np.repeat([0, 1, -1], [60, 50, 40])
    reference = LinearDiscriminantAnalysis(priors=[1 / 3] * 3)
    reference.fit(np.concatenate([scores(x) for x in PARTS]), labels)
    x = torch.cat([smooth(30, 5), 3 * smooth(30, 6), rough(30, 7)])
    assert lda.predict(x).tolist() == reference.predict(scores(x)).tolist()
    expected = reference.decision_function(scores(x))[:, [1, 2, 0]]
    torch.testing.assert_close(lda.decision(x), torch.from_numpy(expected))


def test_known_kinds_are_told_apart(lda):
    report = lda.report(smooth(50, 8), [4 * smooth(50, 9)], rough(50, 10))
    assert min(report.recall.values()) > 0.8
    assert report.confusion.sum(dim=1).tolist() == [50, 50, 50]


def test_what_is_behind_a_verdict(lda):
    x = torch.cat([smooth(3, 11), 4 * smooth(3, 12)])
    explained = lda.explain(x)
    assert torch.equal(explained.verdicts, lda.predict(x))
    for name, scores in lda.pipeline.predict(x).items():
        torch.testing.assert_close(explained.scores[name], scores.double())
    first = str(explained).splitlines()[0]
    assert first.startswith("   0  ID    energy ")
    assert "p=" not in first
    report = lda.report(*PARTS)
    assert report.id_fpr is None
    # without p-values there is no worst: mistakes come as they are
    wrong = [s.number for s in report.samples if not s.right and s.truth == Verdict.ID]
    assert wrong == sorted(wrong)


def test_noisy_samples_make_a_fourth_class():
    def noisy(count, seed):
        return smooth(count, seed) + 0.3 * (rough(count, seed) - smooth(count, seed))

    four = make().fit(TRAIN, *PARTS, noisy=noisy(50, 11))
    assert four.decision(PARTS[0]).shape == (60, 4)
    report = four.report(smooth(50, 8), 4 * smooth(50, 9), rough(50, 10), noisy=noisy(50, 12))
    assert report.recall[Verdict.NOISY] > 0.5  # between smooth and rough
    assert report.confusion.shape == (4, 4)


def test_state_survives(lda, tmp_path):
    torch.save(lda.state_dict(), tmp_path / "lda.pt")
    other = make().load_state_dict(torch.load(tmp_path / "lda.pt", weights_only=True))
    assert torch.equal(other.decision(PARTS[2]), lda.decision(PARTS[2]))
    assert "fitted=True" in repr(other)


def test_before_fitting():
    with pytest.raises(RequiresFittingException, match="TriageLDA is not fitted"):
        make().predict(PARTS[0])
    with pytest.raises(RequiresFittingException, match="TriageLDA is not fitted"):
        make().state_dict()


def test_each_class_needs_samples(lda):
    before = lda.decision(PARTS[0])
    with pytest.raises(ValueError, match=r"ADV needs two or more samples, got 1"):
        lda.fit(TRAIN, *PARTS[:2], PARTS[2][:1])
    assert torch.equal(lda.decision(PARTS[0]), before)


def test_order_of_classes():
    assert list(Verdict) == [Verdict.ID, Verdict.OOD, Verdict.ADV, Verdict.NOISY]
