import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_ood.metrics import AUPR, FPRAtTPR, MetricCollection, OODMetrics
from sklearn import metrics as sk

from pytorch_ood_viyog import ViyogMetrics, viyog_metrics
from pytorch_ood_viyog.evaluation.metrics import ADV, OOD

KEYS = ["AUROC", "AUPR_OOD", "AUPR_ADV", "FPR95", "DetectionError", "AUTC", "AUFPR", "AUFNR"]
TIED = st.integers(-8, 8).map(float)
SCORES = st.lists(TIED | st.floats(-8, 8, width=16), min_size=1, max_size=40)


def reference(ood, adv):
    """The same metrics on scikit-learn's curves, and AUTC by integration over thresholds."""
    scores = np.concatenate([ood, adv])
    is_adv = np.concatenate([np.zeros(len(ood)), np.ones(len(adv))])
    fpr, tpr, _ = sk.roc_curve(is_adv, scores, drop_intermediate=False)
    adv_curve = sk.precision_recall_curve(is_adv, scores)
    ood_curve = sk.precision_recall_curve(1 - is_adv, -scores)
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    thresholds = np.append(np.unique(scaled), 1.0)
    widths = np.diff(thresholds)
    # between two thresholds the rates are constant: above the lower, at or below the upper
    false_positives = [(scaled[is_adv == 0] > t).mean() for t in thresholds[:-1]]
    false_negatives = [(scaled[is_adv == 1] <= t).mean() for t in thresholds[:-1]]
    aufpr, aufnr = np.sum(widths * false_positives), np.sum(widths * false_negatives)
    return {
        "AUROC": sk.roc_auc_score(is_adv, scores),
        "AUPR_OOD": sk.auc(ood_curve[1], ood_curve[0]),
        "AUPR_ADV": sk.auc(adv_curve[1], adv_curve[0]),
        "FPR95": fpr[np.argmax(tpr >= 0.95)],
        "DetectionError": np.min((fpr + 1 - tpr) / 2),
        "AUTC": (aufpr + aufnr) / 2,
        "AUFPR": aufpr,
        "AUFNR": aufnr,
    }


def test_values_by_hand():
    # ADV scores 2 and 4, OOD scores 1 and 3, so three of four pairs are in order
    values = viyog_metrics([1.0, 3.0], [2.0, 4.0])
    assert list(values) == KEYS
    assert all(type(value) is float for value in values.values())
    assert values["AUROC"] == 0.75
    assert values["FPR95"] == 0.5
    assert values["DetectionError"] == 0.25
    # scaled: OOD 0 and 2/3, ADV 1/3 and 1
    assert values["AUFPR"] == pytest.approx(1 / 3)
    assert values["AUFNR"] == pytest.approx(1 / 3)
    assert values["AUTC"] == pytest.approx(1 / 3)


@settings(max_examples=100, deadline=None)
@given(ood=SCORES, adv=SCORES)
def test_against_scikit_learn(ood, adv):
    if len({*ood, *adv}) == 1:
        return
    ood, adv = np.array(ood), np.array(adv)
    assert viyog_metrics(ood, adv) == pytest.approx(reference(ood, adv), abs=1e-12)


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        np.asarray,
        torch.tensor,
        lambda s: np.asarray(s, dtype=np.float32),
        lambda s: np.asarray(s[::-1])[::-1],  # negative strides
        lambda s: np.broadcast_to(s, (1, len(s))),  # read-only
        lambda s: torch.tensor(s, requires_grad=True),
        lambda s: torch.tensor(s, dtype=torch.bfloat16),
        lambda s: torch.tensor(s).reshape(2, 2),
        lambda s: [torch.tensor(v) for v in s],
        lambda s: [int(v) for v in s],
    ],
)
def test_tensors_arrays_and_lists(convert):
    ood, adv = [1.0, 5.0, 3.0, 2.0], [4.0, 6.0, 3.0, 8.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert viyog_metrics(convert(ood), convert(adv)) == viyog_metrics(ood, adv)


@pytest.mark.parametrize("name", ["ood_scores", "adv_scores"])
def test_empty_scores(name):
    arguments = {"ood_scores": [1.0], "adv_scores": [2.0]} | {name: []}
    with pytest.raises(ValueError, match=f"^{name} is empty"):
        viyog_metrics(**arguments)


def test_nan_scores_are_named():
    with pytest.raises(ValueError, match=r"^adv_scores contains NaN at \[1, 3\]"):
        viyog_metrics([1.0], [0.0, math.nan, 2.0, math.nan])


@pytest.mark.parametrize("scores", [None, "abc", {"a": 1}, [None, 1.0], [[1.0], [2.0, 3.0]]])
def test_scores_that_are_not_numbers(scores):
    with pytest.raises(TypeError, match="ood_scores must be a tensor, an array or a list"):
        viyog_metrics(scores, [1.0])


@pytest.mark.parametrize(
    ("ood", "adv", "auroc"), [([1.0, 1.0], [1.0], 0.5), ([0.0, 1.0], [math.inf], 1.0)]
)
def test_autc_of_constant_or_infinite_scores_is_nan_with_a_warning(ood, adv, auroc):
    with pytest.warns(UserWarning, match="AUTC is undefined"):
        values = viyog_metrics(ood, adv)
    assert values["AUROC"] == auroc
    assert all(math.isnan(values[key]) for key in ("AUTC", "AUFPR", "AUFNR"))


def test_batch_by_batch_equals_all_at_once():
    ood, adv = torch.randn(30), torch.randn(41) + 1
    metrics = ViyogMetrics()
    for batch in ood.split(7):
        assert metrics.update(batch, torch.full_like(batch, OOD)) is metrics
    for batch in adv.split(7):
        metrics.update(batch, torch.full_like(batch, ADV))
    assert metrics.compute() == pytest.approx(viyog_metrics(ood, adv), abs=1e-12)
    assert metrics.compute() == metrics.compute()


def test_reset_forgets():
    metrics = ViyogMetrics().update(torch.rand(4), torch.tensor([1, 1, -1, -1]))
    assert metrics.reset() is metrics
    with pytest.raises(ValueError, match="no data"):
        metrics.compute()
    metrics.update(torch.tensor([0.0, 1.0]), torch.tensor([1, -1]))
    assert metrics.compute()["AUROC"] == 1


@pytest.mark.parametrize(
    ("scores", "labels", "message"), [([0, 1], [1, 1], "both"), ([math.nan, 1], [1, -1], "NaN")]
)
def test_one_class_and_nan_are_refused(scores, labels, message):
    metrics = ViyogMetrics().update(torch.tensor(scores), torch.tensor(labels))
    with pytest.raises(ValueError, match=message):
        metrics.compute()


def test_labels_of_other_classes_are_refused_or_ignored_on_request():
    scores, labels = torch.tensor([9.0, 0.0, 1.0]), torch.tensor([0, 1, -1])
    with pytest.raises(ValueError, match=r"labels must be 1 \(OOD\) or -1 \(ADV\), got \[0\]"):
        ViyogMetrics().update(scores, labels).compute()
    assert ViyogMetrics(void_label=0).update(scores, labels).compute()["AUROC"] == 1


def test_inputs_of_update():
    with pytest.raises(ValueError, match="same shape"):
        ViyogMetrics().update(torch.rand(3), torch.ones(2))
    with pytest.raises(TypeError, match="must be a tensor"):
        ViyogMetrics().update([1.0], torch.ones(1))


def test_part_of_a_metric_collection_beside_those_of_pytorch_ood():
    scores, labels = torch.randn(60), torch.tensor([OOD, ADV] * 30)
    collection = MetricCollection([ViyogMetrics(), AUPR("ood"), AUPR("id"), FPRAtTPR(0.95)])
    for part in (slice(0, 25), slice(25, 60)):
        collection.update(scores=scores[part], labels=labels[part])
    values = collection.compute()
    alone = ViyogMetrics().update(scores, labels).compute()
    assert {key: values[key] for key in KEYS} == alone
    # pytorch-ood's own metrics call the positive class OOD; here that is ADV
    values |= OODMetrics().update(scores, labels).compute()
    names = {"AUPR_ADV": "AUPR-OUT", "AUPR_OOD": "AUPR-IN", "FPR95": "FPR95TPR"}
    for ours, theirs in (names | {"AUROC": "AUROC", "AUTC": "AUTC"}).items():
        assert alone[ours] == pytest.approx(values[theirs], abs=1e-12)
    assert collection.needs_id
    assert collection.needs_ood


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_the_data_and_part_ways(duplicate):
    metrics = ViyogMetrics().update(torch.tensor([0.0, 1.0]), torch.tensor([1, -1]))
    copied = duplicate(metrics)
    metrics.update(torch.tensor([5.0]), torch.tensor([1]))
    assert copied.compute()["AUROC"] == 1
    assert metrics.compute()["AUROC"] == 0.5


def test_perfect_and_inverted_scores():
    perfect = viyog_metrics([0.0, 0.0], [1.0, 1.0])
    assert perfect == pytest.approx(
        dict.fromkeys(KEYS, 0.0) | {"AUROC": 1.0, "AUPR_OOD": 1.0, "AUPR_ADV": 1.0}
    )
    inverted = viyog_metrics([1.0, 1.0], [0.0, 0.0])
    assert inverted["AUROC"] == 0
    assert inverted["FPR95"] == 1
    assert inverted["DetectionError"] == 0.5
    assert inverted["AUTC"] == 1
