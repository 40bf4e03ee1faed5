"""AdversarialBenchmark on a case worked out by hand, its contract, its failures, its files."""

import csv
import math
import re

import pytest
import torch
from flat_images import Bright, Mean, brighten, flat
from manners import untouched
from networks import SmallNet, build
from pytorch_ood.api import GradientDetector, LogitsDetector
from pytorch_ood.benchmark import Benchmark
from pytorch_ood.detector import EnergyBased, KLMatching, MaxSoftmax
from torch.utils.data import DataLoader, TensorDataset

from pytorch_ood_viyog import ViyogTV
from pytorch_ood_viyog.benchmark.benchmark import AdversarialBenchmark
from pytorch_ood_viyog.benchmark.scoring import Scorer
from pytorch_ood_viyog.images import BenignChange


class Broken(Mean):
    """Fails where it is told to."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def fit(self, data_loader):
        if self.where == "fit":
            raise ArithmeticError("no fit")
        return self

    def predict(self, x):
        if self.where == "predict":
            raise ArithmeticError("no score")
        if self.where == "bright" and x.mean() > 0.92:
            raise ArithmeticError("too bright")
        scores = super().predict(x)
        if self.where == "shape":
            return scores[:1].expand(len(x) + 1)
        return scores * math.nan if self.where == "nan" else scores


class Unfittable(LogitsDetector):
    requires_fit = True

    def __init__(self, model):
        self.model = model

    def fit_logits(self, logits, y):
        raise ArithmeticError("no fit to logits")

    def predict_logits(self, logits):
        return logits[:, 0]


@pytest.fixture
def bench():
    """ID .1 .2 .3 .4 (and .9, misclassified), OOD .15 .25; attacked .55 .65 .75 .85."""
    return AdversarialBenchmark(
        Bright().eval(),
        (flat(0.1, 0.2, 0.3, 0.4, 0.9), torch.zeros(5, dtype=torch.int64)),
        {"dusk": flat(0.15, 0.25), "noon": flat(0.95)},
        {"brighten": brighten(0.45)},
        id_train=(flat(0.1, 0.2), torch.zeros(2, dtype=torch.int64)),
        resamples=20,
        min_images=1,
        progress=False,
    )


def auroc(rows, **fields):
    found = [row for row in rows if all(row[name] == value for name, value in fields.items())]
    assert len(found) == 1
    return found[0]["AUROC"]


def test_by_hand(bench):
    rows = bench.evaluate({"bright": Mean(), "dark": Mean(-1)})
    # dusk against ID: .15 is above .1; .25 above .1 and .2; of 10 pairs
    assert auroc(rows, Detector="bright", Task="T1", Dataset="dusk") == pytest.approx(0.3)
    assert auroc(rows, Detector="bright", Task="T1", Dataset="noon") == 1
    # the four attacked images are brighter than all ID images but that of .9
    assert auroc(rows, Detector="bright", Task="T2", Attack="brighten") == pytest.approx(0.8)
    assert auroc(rows, Detector="bright", Task="T3", Dataset="dusk") == 1
    assert auroc(rows, Detector="bright", Task="T3", Dataset="noon") == 0
    # the direction is kept
    for one, other in zip(rows[:5], rows[5:], strict=True):
        assert one["AUROC"] + other["AUROC"] == pytest.approx(1)


def test_rows_have_sizes_and_costs(bench):
    rows = bench.evaluate(Mean())
    fields = set(rows[0])
    assert all(set(row) == fields for row in rows)
    assert [row["Task"] for row in rows] == ["T1", "T1", "T2", "T3", "T3"]
    t2 = rows[2]
    assert (t2["Negatives"], t2["Positives"]) == (5, 4)
    # .9 is misclassified before the attack and so not attacked
    assert t2["SuccessRate"] == 1
    assert t2["Linf"] == pytest.approx(115, abs=1)  # 0.45 of 255, rounded
    assert t2["AUROC low"] <= t2["AUROC"] <= t2["AUROC high"]
    assert t2["SecondsPerImage"] > 0
    assert t2["Error"] == ""
    assert bench.attack_sizes()["brighten"].succeeded == 4


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("fit", "no fit"),
        ("predict", "no score"),
        ("nan", "NaN"),
        ("shape", r"shape \(\d,\)"),
        ("logits", "no fit to logits"),
    ],
)
@pytest.mark.filterwarnings("ignore:Failure while")
def test_a_failing_detector_does_not_stop_the_others(bench, where, message):
    good = {"mean": Mean(), "kl": KLMatching(bench.model)}
    alone = bench.evaluate(good, fit=True)
    bad = Unfittable(bench.model) if where == "logits" else Broken(where)
    rows = bench.evaluate({"bad": bad} | good, fit=True)
    assert len(rows) == 15
    assert all(math.isnan(row["AUROC"]) for row in rows[:5])
    assert all(re.search(message, row["Error"]) for row in rows[:5])
    assert [row["AUROC"] for row in rows[5:]] == [row["AUROC"] for row in alone]


def test_a_failure_is_warned_of_and_stays_with_its_images(bench):
    with pytest.warns(UserWarning, match="Failure while fitting Unfittable: .*no fit to logits"):
        bench.evaluate(Unfittable(bench.model), fit=True)
    with pytest.warns(UserWarning, match="Failure while scoring noon with moody"):
        rows = bench.evaluate({"moody": Broken("bright")}, {"batch_size": 1})
    errors = {(row["Task"], row["Dataset"], row["Attack"]): row["Error"] for row in rows}
    failed = [key for key, error in errors.items() if "too bright" in error]
    assert failed == [("T1", "noon", ""), ("T3", "noon", "brighten")]
    assert all(errors[key] == "" for key in errors if key not in failed)


def test_one_forward_pass_serves_all(bench):
    passes = []
    bench.model.register_forward_hook(lambda *_: passes.append(1))
    detectors = {"msp": MaxSoftmax(bench.model), "kl": KLMatching(bench.model)}
    scorer = Scorer(bench.model, detectors, seed=0, progress=False)
    scorer.fit(DataLoader(bench.train_set(), batch_size=1))
    assert len(passes) == 2
    scorer.score("ID", lambda: bench.id_test, {"batch_size": 3})
    assert len(passes) == 2 + 2
    alone = KLMatching(bench.model).fit(DataLoader(bench.train_set(), batch_size=2))
    x = torch.stack([x for x, _ in bench.id_test])
    torch.testing.assert_close(scorer.scores["kl"]["ID"], alone(x).detach())
    torch.testing.assert_close(scorer.scores["msp"]["ID"], MaxSoftmax(bench.model)(x).detach())


def test_gradient_detectors_have_gradients(bench):
    class NeedsGradient(GradientDetector):
        def predict(self, x):
            assert torch.is_grad_enabled()
            return x.mean(dim=(1, 2, 3))

    class NeedsNone(Mean):
        def predict(self, x):
            assert not torch.is_grad_enabled()
            return super().predict(x)

    rows = bench.evaluate([NeedsGradient(), NeedsNone(), NeedsNone()])
    assert not any(row["Error"] for row in rows)
    names = list(dict.fromkeys(row["Detector"] for row in rows))
    assert names == ["NeedsGradient", "NeedsNone", "NeedsNone (2)"]


def test_the_model_is_left_as_found():
    images = torch.rand(24, 3, 8, 8)
    model = build(SmallNet)
    labels = model(images).argmax(1)
    bench = AdversarialBenchmark(
        model.train(),
        (images, labels),
        {"noise": torch.rand(9, 3, 8, 8)},
        {"brighten": brighten(0.3)},
        id_train=(images, labels),
        resamples=0,
        progress=False,
    )
    with untouched(model):
        bench.evaluate([ViyogTV(model), EnergyBased(model)], fit=True)


class TestContract:
    """What pytorch-ood asks of a Benchmark."""

    def test_sets(self, bench):
        assert bench.ood_names == ["dusk", "noon", "brighten"]
        both, unknown = bench.test_sets(), bench.test_sets(known=False)
        assert [len(d) for d in both] == [5 + 2, 5 + 1, 5 + 4]
        assert [len(d) for d in unknown] == [2, 1, 4]
        assert [int(y) for _, y in both[0]] == [0] * 5 + [-1] * 2
        assert all(y < 0 for d in unknown for _, y in d)
        assert [len(d) for d in bench.test_sets(unknown=False)] == [5]
        with pytest.raises(ValueError, match="both"):
            bench.test_sets(known=False, unknown=False)

    def test_train_set(self, bench):
        assert len(bench.train_set()) == 2
        bench.id_train = None
        with pytest.raises(ValueError, match="id_train"):
            bench.train_set()

    def test_evaluate_of_the_base_class_agrees(self, bench):
        ours = {r["Dataset"] or r["Attack"]: r for r in bench.evaluate(Mean())[:3]}
        theirs = Benchmark.evaluate(bench, Mean(), loader_kwargs={"batch_size": 4})
        assert [row["Dataset"] for row in theirs] == bench.ood_names
        for row in theirs:
            for metric in ("AUROC", "AUPR-IN", "AUPR-OUT", "FPR95TPR", "AUTC"):
                assert ours[row["Dataset"]][metric] == pytest.approx(row[metric], nan_ok=True)


def test_benign_changes_are_compared_with_attacks(tmp_path):
    """T4: the negatives are the ID test images after each change."""
    images, labels = flat(0.2, 0.4, 0.6), torch.tensor([0, 0, 1])
    brighter = BenignChange("gamma", 0.5)
    bench = AdversarialBenchmark(
        Bright(), (images, labels), {}, {"up": brighten(0.4)}, benign=[brighter],
        resamples=0, min_images=1, progress=False,
    )  # fmt: skip
    rows = bench.evaluate({"mean": Mean(), "reversed": Mean(-1)})
    by_task = {(row["Detector"], row["Task"]): row for row in rows}
    row = by_task["mean", "T4"]
    assert (row["Dataset"], row["Attack"]) == ("gamma 0.5", "up")
    # changed: 0.45, 0.63, 0.77; attacks that succeed: 0.6 and 0.8
    assert (row["Negatives"], row["Positives"]) == (3, 2)
    assert row["AUROC"] == pytest.approx(4 / 6)
    assert by_task["reversed", "T4"]["AUROC"] == pytest.approx(2 / 6)
    torch.testing.assert_close(bench.scores["mean"]["gamma 0.5"], brighter(images).mean((1, 2, 3)))
    bench.save(tmp_path / "t4")
    assert "T4 benign-vs-ADV, by benign change" in (tmp_path / "t4.md").read_text()
    with pytest.raises(ValueError, match=r"benign, got \['gamma 0.5'\] twice"):
        AdversarialBenchmark(Bright(), images, {"gamma 0.5": images}, {}, benign=[brighter])


def test_arguments_are_checked():
    images, labels = flat(0.1), torch.zeros(1)
    with pytest.raises(ValueError, match="both empty"):
        AdversarialBenchmark(Bright(), (images, labels), {}, {})
    with pytest.raises(ValueError, match=r"\['a'\] twice"):
        AdversarialBenchmark(Bright(), images, {"a": images}, {"a": brighten(1)})
    with pytest.raises(ValueError, match="id_test is empty"):
        AdversarialBenchmark(Bright(), images[:0], {"a": images}, {})
    with pytest.raises(TypeError, match="id_test must be a data set"):
        AdversarialBenchmark(Bright(), 3, {"a": images}, {})
    wrong = TensorDataset(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2))
    with pytest.raises(TypeError, match=r"float tensors.*uint8"):
        AdversarialBenchmark(Bright(), wrong, {"a": images}, {}).evaluate(Mean())
    bench = AdversarialBenchmark(Bright(), (images, labels), {"a": images * 20}, {})
    with pytest.raises(ValueError, match="'a' must yield images in"):
        bench.evaluate(Mean())
    with pytest.raises(TypeError, match="got \\['int'\\]"):
        bench.evaluate([Mean(), 1])
    with pytest.raises(ValueError, match="one or several"):
        bench.evaluate([])
    with pytest.raises(RuntimeError, match="evaluate"):
        bench.save("nowhere")


@pytest.mark.filterwarnings("ignore:Failure while")
def test_save_and_plot(bench, tmp_path):
    rows = bench.evaluate({"bright": Mean(), "broken": Broken("predict")})
    table, text = bench.save(tmp_path / "new" / "mine")
    with table.open() as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rows)
    for row, expected in zip(read, rows, strict=True):
        assert row["Detector"] == expected["Detector"]
        assert float(row["AUROC"] or "nan") == pytest.approx(expected["AUROC"], nan_ok=True)
    written = text.read_text()
    assert "| bright | 0.300 | 1.000 | **0.650** |" in written
    assert "- broken: ArithmeticError: no score" in written
    assert "| brighten | 4 | 4 | 1.000 |" in written
    pytest.importorskip("matplotlib")
    figures = bench.plot(tmp_path / "new" / "mine")
    assert [figure.name for figure in figures] == ["mine_auroc.png", "mine_scores.png"]
    assert all(figure.read_bytes().startswith(b"\x89PNG") for figure in figures)
