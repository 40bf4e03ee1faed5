"""
The contract runs on detectors that are not ours: one of pytorch-ood's for each kind of input, with
nothing but the declarations. What they fail today may pass with their next release.
"""

from typing import ClassVar

import pytest
from contract_models import class_batches, classifier, gray, segmenter
from pytorch_ood.detector import KNN, MCD, ODIN, MaxSoftmax, ReAct

from pytorch_ood_viyog.testing import DetectorContract

NAMES = "the base class names arguments otherwise"
NO_MODEL = "TypeError instead of ModelNotSetException"
GRAPH = "scores keep the graph of the forward pass"
UNCHECKED = "set_hyperparameters takes what the constructor refuses"
FLAT = "the benchmark flattens logits of shape (B, C, H, W)"
RANDOM = "scores are random by design"
HALF = "no half precision"


class Theirs(DetectorContract):
    """What pytorch-ood's detectors share: they call the model as it is, and look for the odd."""

    runs_model_as_is = True
    #: checks that may fail, by name, with the reason
    may_fail: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _may_fail(self, request):
        if reason := self.may_fail.get(request.node.name):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=False))

    @pytest.fixture
    def detector(self):
        return self.make(classifier())

    @pytest.fixture
    def loader(self):
        return class_batches()

    def anomaly(self, x):
        return gray(x)

    def other_id(self, x):
        return x + 0.3 * x.flip(-1)


class TestMaxSoftmax(Theirs):
    make = MaxSoftmax
    may_fail: ClassVar = {"test_04_scores_carry_no_gradient": GRAPH}


class TestMaxSoftmaxOnPixels(Theirs):
    grid_scores = True
    may_fail: ClassVar = {
        "test_04_scores_carry_no_gradient": GRAPH,
        "test_09_benchmark_alone": FLAT,
        "test_09_benchmark_in_a_list": FLAT,
    }

    @pytest.fixture
    def detector(self):
        return MaxSoftmax(segmenter())

    @pytest.fixture
    def loader(self):
        return [(x, y.view(-1, 1, 1).expand(-1, *x.shape[2:])) for x, y in class_batches()]

    def anomaly(self, x):
        return 0.1 * x  # what the untrained model is less sure of


class TestKNN(Theirs):
    search_space: ClassVar = {"k": [3, 9]}
    may_fail: ClassVar = {
        "test_01_signatures_match_the_base_class": NAMES,
        "test_07_bfloat16_works": HALF,
        "test_07_empty_batch": "no scores for an empty batch",
        "test_08_bad_values_raise": UNCHECKED,
    }

    def make(self, model):
        return KNN(model.features, k=5, algorithm="brute")

    def without_model(self, detector):
        return KNN(None, k=5, algorithm="brute")


class TestReAct(Theirs):
    may_fail: ClassVar = {
        "test_02_model_less_use_raises": NO_MODEL,
        "test_07_bfloat16_works": HALF,
        "test_08_bad_values_raise": UNCHECKED,
    }

    def make(self, model):
        return ReAct(model.feature_maps, model.forward_feature_maps)

    def without_model(self, detector):
        return ReAct(None, detector.head)


class TestODIN(Theirs):
    make = ODIN
    may_fail: ClassVar = {"test_08_bad_values_raise": UNCHECKED}


class TestMCD(Theirs):
    may_fail: ClassVar = {
        "test_04_scores_do_not_depend_on_the_batch": RANDOM,
        "test_06_model_is_untouched_in_evaluation_mode": RANDOM,
        "test_06_model_is_untouched_when_it_raises": "left in training mode",
        "test_07_strides_do_not_matter": RANDOM,
        "test_07_batch_of_one": RANDOM,
        "test_09_benchmark_alone": RANDOM,
        "test_09_benchmark_in_a_list": RANDOM,
        "test_10_threads_get_the_scores_of_one": RANDOM,
    }

    def make(self, model):
        return MCD(model, samples=4)
