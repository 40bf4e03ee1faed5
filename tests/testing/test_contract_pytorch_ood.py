"""
The contract on pytorch-ood's own detectors. What it finds is an expected failure here, with the
section of ``examples/contract/FINDINGS.md`` that reproduces it.
"""

from typing import ClassVar

import pytest
from contract_models import class_batches, classifier, gray, segmenter
from pytorch_ood.detector import (
    DICE,
    KNN,
    MCD,
    NACUE,
    ODIN,
    SCALE,
    Mahalanobis,
    MahalanobisODIN,
    MaxSoftmax,
    ReAct,
    TemperatureScaling,
    ViM,
)

from pytorch_ood_viyog.testing import DetectorContract

NAMES = "section 1: fit_* and predict_* name their arguments differently than the base class"
NO_MODEL = "section 2: TypeError instead of ModelNotSetException"
GRAPH = "section 3: the scores keep the graph of the forward pass"
UNCHECKED = "section 4: set_hyperparameters takes what the constructor refuses"
GRID = "section 5: the benchmark flattens logits of shape (B, C, H, W)"
WARM_START = "section 6: a refit starts from the temperature of the last fit"
EMPTY = "section 11: no scores for an empty batch"
HALF = "section 12: half precision"
RANDOM = "by design: the scores are random (the docstring says so)"


class Theirs(DetectorContract):
    """What pytorch-ood's detectors share: they call the model as it is, and look for the odd."""

    runs_model_as_is = True

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
    expected_failures: ClassVar = {"test_04_scores_carry_no_gradient": GRAPH}


class TestMaxSoftmaxOnPixels(Theirs):
    grid_scores = True
    expected_failures: ClassVar = {
        "test_04_scores_carry_no_gradient": GRAPH,
        "test_09_benchmark_alone": GRID,
        "test_09_benchmark_in_a_list": GRID,
    }

    @pytest.fixture
    def detector(self):
        return MaxSoftmax(segmenter())

    @pytest.fixture
    def loader(self):
        return [(x, y.view(-1, 1, 1).expand(-1, *x.shape[2:])) for x, y in class_batches()]

    def anomaly(self, x):
        return 0.1 * x  # what the untrained model is less sure of


class TestTemperatureScaling(Theirs):
    make = TemperatureScaling
    expected_failures: ClassVar = {
        "test_01_signatures_match_the_base_class": NAMES,
        "test_03_refit_replaces_the_state": WARM_START,
        "test_03_ood_labels_do_not_change_the_fit": WARM_START,
        "test_04_scores_carry_no_gradient": GRAPH,
        "test_05_fit_on_representation_is_the_same": WARM_START,
        "test_07_channels_last_gives_the_same_scores": WARM_START,
    }


class TestMahalanobis(Theirs):
    expected_failures: ClassVar = {
        "test_01_signatures_match_the_base_class": NAMES,
        "test_02_model_less_use_raises": NO_MODEL,
        "test_03_ood_labels_do_not_change_the_fit": "documented: fit_features takes ID data only",
        "test_07_empty_batch": EMPTY,
    }

    def make(self, model):
        return Mahalanobis(model.features)


class TestKNN(Theirs):
    search_space: ClassVar = {"k": [3, 9]}
    expected_failures: ClassVar = {
        "test_01_signatures_match_the_base_class": NAMES,
        "test_07_bfloat16_works": HALF,
        "test_07_empty_batch": EMPTY,
        "test_08_bad_values_raise": UNCHECKED,
    }

    def make(self, model):
        return KNN(model.features, k=5, algorithm="brute")

    def without_model(self, detector):
        return KNN(None, k=5, algorithm="brute")


class TestViM(Theirs):
    expected_failures: ClassVar = {
        "test_01_signatures_match_the_base_class": NAMES,
        "test_02_unfitted_use_raises": "section 7: TypeError instead of RequiresFittingException",
        "test_03_ood_labels_do_not_change_the_fit": "section 7: fit_features takes OOD samples",
        "test_08_bad_values_raise": UNCHECKED,
        "test_08_grid_search_leaves_the_best": "section 7: a fit changes the hyper-parameter d",
    }

    def make(self, model):
        return ViM(model.features, d=3, w=model.fc.weight, b=model.fc.bias)

    def without_model(self, detector):
        return ViM(None, d=3, w=detector.w, b=detector.b)


class TestDICE(Theirs):
    expected_failures: ClassVar = {
        "test_01_signatures_match_the_base_class": NAMES,
        "test_02_model_less_use_raises": NO_MODEL,
        "test_08_bad_values_raise": UNCHECKED,
    }

    def make(self, model):
        return DICE(model.features, model.fc.weight, model.fc.bias, p=0.7)

    def without_model(self, detector):
        return DICE(None, detector.weight, detector.bias, p=0.7)


class TestReAct(Theirs):
    expected_failures: ClassVar = {
        "test_02_model_less_use_raises": NO_MODEL,
        "test_07_bfloat16_works": HALF,
        "test_08_bad_values_raise": UNCHECKED,
    }

    def make(self, model):
        return ReAct(model.feature_maps, model.forward_feature_maps)

    def without_model(self, detector):
        return ReAct(None, detector.head)


class TestSCALE(Theirs):
    expected_failures: ClassVar = {
        "test_02_model_less_use_raises": NO_MODEL,
        "test_07_channels_last_gives_the_same_scores": "section 8: view() on channels_last maps",
        "test_08_bad_values_raise": UNCHECKED,
    }

    def make(self, model):
        return SCALE(model.feature_maps, model.forward_feature_maps)

    def without_model(self, detector):
        return SCALE(None, detector.head)


class TestMCD(Theirs):
    expected_failures: ClassVar = {
        "test_04_scores_do_not_depend_on_the_batch": RANDOM,
        "test_06_model_is_untouched_in_evaluation_mode": RANDOM,
        "test_06_model_is_untouched_when_it_raises": "section 9: left in training mode",
        "test_07_strides_do_not_matter": RANDOM,
        "test_07_batch_of_one": RANDOM,
        "test_09_benchmark_alone": RANDOM,
        "test_09_benchmark_in_a_list": RANDOM,
        "test_10_threads_get_the_scores_of_one": RANDOM,
    }

    def make(self, model):
        return MCD(model, samples=4)


class TestODIN(Theirs):
    make = ODIN
    expected_failures: ClassVar = {"test_08_bad_values_raise": UNCHECKED}


class TestMahalanobisODIN(Theirs):
    expected_failures: ClassVar = {
        "test_02_model_less_use_raises": NO_MODEL,
        "test_06_model_is_untouched_in_evaluation_mode": "section 9: gradients pile up",
        "test_06_model_is_untouched_in_training_mode": "section 9: gradients pile up",
        "test_07_empty_batch": EMPTY,
    }

    def make(self, model):
        return MahalanobisODIN(model.features)


class TestNACUE(Theirs):
    expected_failures: ClassVar = {
        "test_03_failed_fit_keeps_the_state": "section 10: a failed fit leaves half a state",
        "test_03_ood_labels_do_not_change_the_fit": "documented: fit takes ID data only",
        "test_06_model_is_untouched_in_training_mode": "documented: fit calls model.eval()",
        "test_06_model_is_untouched_when_it_raises": "section 9: hooks stay on the model",
        "test_07_deepcopy_is_independent": "section 10: keeps the graph of the last batch",
        "test_10_threads_get_the_scores_of_one": "section 10: keeps activations on the detector",
        "test_10_many_calls_leave_nothing_behind": "section 9: hooks stay on the model",
    }

    def make(self, model):
        return NACUE(model, [model.stem, model.body], o_star=5)

    def without_model(self, detector):
        return NACUE(None, detector.layers)
