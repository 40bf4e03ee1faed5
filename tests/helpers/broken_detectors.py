"""
A detector that passes the contract, and for each check one with a single defect that must fail it.
"""

import sys
import time
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "contract"))

from mean_distance import MeanDistance

#: defective classes by the check that must find them, each with a piece of the expected message
BROKEN: dict[str, tuple[type, str]] = {}


def must_fail(name: str, message: str):
    """Registers a defective detector."""

    def register(kind: type) -> type:
        assert name not in BROKEN
        BROKEN[name] = (kind, message)
        return kind

    return register


@must_fail("test_01_info_is_there_and_true", "info must be a DetectorInfo, got None")
class NoInfo(MeanDistance):
    info = None


@must_fail("test_01_signatures_match_the_base_class", r"must take \['x', 'y'\] by name")
class OtherNames(MeanDistance):
    def fit_features(self, z, labels):
        return super().fit_features(z, labels)


@must_fail("test_02_unfitted_use_raises", "must raise RequiresFittingException, but returned")
class ScoresUnfitted(MeanDistance):
    def predict_features(self, x):
        return x.sum(dim=1) if self.mean is None else super().predict_features(x)


@must_fail("test_02_model_less_use_raises", "ModelNotSetException, but raised TypeError")
class NoneIsCalled(MeanDistance):
    def predict(self, x):
        with torch.no_grad():
            return self.predict_features(self.encoder(x))


@must_fail("test_03_fit_returns_the_detector", "must return the detector itself")
class ReturnsNothing(MeanDistance):
    def fit(self, data_loader):
        super().fit(data_loader)


@must_fail("test_03_refit_replaces_the_state", "A refit must replace the state")
class RemembersOldFits(MeanDistance):
    def fit_features(self, x, y):
        before = self.mean
        super().fit_features(x, y)
        self.mean = self.mean if before is None else 0.5 * (self.mean + before)
        return self


@must_fail("test_03_failed_fit_keeps_the_state", "A failed fit must keep the old state")
class ForgetsFirst(MeanDistance):
    def fit(self, data_loader):
        for x, y in data_loader:
            self.fit_features(self.encoder(x).detach(), y)
        return super().fit(data_loader)


@must_fail("test_03_ood_labels_do_not_change_the_fit", "labels below 0 are OOD")
class TakesAllSamples(MeanDistance):
    def fit_features(self, x, y):
        return super().fit_features(x, torch.zeros_like(y))


@must_fail("test_04_scores_are_one_finite_float_per_sample", r"Scores must have shape \(B,\)")
class ColumnOfScores(MeanDistance):
    def predict_features(self, x):
        return super().predict_features(x)[:, None]


@must_fail("test_04_scores_carry_no_gradient", "Scores must carry no gradient")
class KeepsGraph(MeanDistance):
    def predict(self, x):
        return self.predict_features(self.encoder(x))

    def predict_features(self, x):
        return ((x - self.mean) / self.std).norm(self.order, dim=1)


@must_fail("test_04_scores_do_not_depend_on_the_batch", "Scores in batches of 1 must be the same")
class NormalisesBatch(MeanDistance):
    def predict_features(self, x):
        scores = super().predict_features(x)
        return scores - scores.mean() if len(scores) else scores


@must_fail(
    "test_04_parts_inside_the_model_do_not_matter",
    "Scores of a model that runs in micro-batches must be the same",
)
class ReadsFirstRun(MeanDistance):
    def predict(self, x):
        seen = []
        handle = self.encoder[-1].register_forward_hook(lambda m, taken, out: seen.append(out))
        self.encoder(x)
        handle.remove()
        return self.predict_features(seen[0].detach())


@must_fail("test_04_anomalies_score_higher", "Larger scores must mean more anomalous")
class WrongSign(MeanDistance):
    def predict_features(self, x):
        return -super().predict_features(x)


@must_fail("test_05_representation_gives_the_same_scores", "must give the same scores")
class ScalesInputs(MeanDistance):
    def predict(self, x):
        return 2 * super().predict(x)


@must_fail("test_05_fit_on_representation_is_the_same", "fit and fit_features must give the same")
class FitsTwoWays(MeanDistance):
    def fit(self, data_loader):
        super().fit(data_loader)
        self.mean = self.mean + 1
        return self


@must_fail("test_06_no_hooks_stay_on_the_model", "must carry no hooks after its construction")
class HoldsHook(MeanDistance):
    def __init__(self, encoder, order=2.0):
        super().__init__(encoder, order)
        if encoder is not None:
            encoder.register_forward_hook(_watch)


def _watch(module, inputs, output):
    pass


@must_fail("test_06_model_is_untouched_in_evaluation_mode", r"fit must not change .*random_state")
class DrawsNumbers(MeanDistance):
    def fit_features(self, x, y):
        return super().fit_features(x[torch.randperm(len(x))], y)


@must_fail("test_06_model_is_untouched_in_training_mode", r"predict must not change .*modes")
class SwitchesToEval(MeanDistance):
    def predict(self, x):
        if self.encoder is not None:
            self.encoder.eval()
        return super().predict(x)


@must_fail("test_06_model_is_untouched_when_it_raises", r"when a Conv2d of it raises.*modes")
class RestoresTooLate(MeanDistance):
    def predict(self, x):
        if self.encoder is None:
            return super().predict(x)
        training = self.encoder.training
        self.encoder.train(not training)
        scores = super().predict(x)
        self.encoder.train(training)
        return scores


@must_fail("test_07_moving_keeps_the_scores", r"to\(device\) must return the detector itself")
class MovesSilently(MeanDistance):
    def to(self, device):
        super().to(device)


@must_fail("test_07_deepcopy_is_independent", "Fitting a copy must not change the original")
class SharesState(MeanDistance):
    shared: dict = {}  # noqa: RUF012 (the defect)

    def fit_features(self, x, y):
        super().fit_features(x, y)
        self.shared["mean"] = self.mean
        return self

    def predict_features(self, x):
        self.mean = self.shared["mean"]
        return super().predict_features(x)


@must_fail("test_07_pickle_keeps_the_scores", r"pickle.dumps\(detector\) is expected to work")
class HoldsLambda(MeanDistance):
    def __init__(self, encoder, order=2.0):
        super().__init__(encoder, order)
        self.transform = lambda scores: scores


@must_fail("test_07_state_round_trips", "Scores after load_state_dict must be the same")
class SavesHalf(MeanDistance):
    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean, self.std = state["mean"], torch.ones_like(state["mean"])


@must_fail("test_07_half_precision_works", "torch.float16 is expected to work, but raised")
class MixesPrecision(MeanDistance):
    def predict_features(self, x):
        return super().predict_features(x @ torch.eye(x.shape[1]))


@must_fail("test_07_bfloat16_works", "torch.bfloat16 is expected to work, but raised TypeError")
class GoesThroughNumpy(MeanDistance):
    def predict_features(self, x):
        return super().predict_features(torch.from_numpy(x.numpy()))


@must_fail("test_07_channels_last_gives_the_same_scores", "channels_last is expected to work")
class Views(MeanDistance):
    def predict(self, x):
        x.view(len(x), -1)
        return super().predict(x)


@must_fail("test_07_strides_do_not_matter", "Scores of non-contiguous inputs must be the same")
class ReadsMemory(MeanDistance):
    def predict(self, x):
        # what a kernel without strides sees: the memory from the first element on
        memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
        return super().predict(memory[x.storage_offset() :][: x.numel()].view(x.shape))


@must_fail("test_07_batch_of_one", r"shape \(\) instead of \(1,\)")
class Squeezes(MeanDistance):
    def predict_features(self, x):
        return super().predict_features(x).squeeze()


@must_fail("test_07_empty_batch", "predict on an empty batch is expected to work")
class NeedsMaximum(MeanDistance):
    def predict_features(self, x):
        return super().predict_features(x) + 0 * x.max()


@must_fail("test_08_hyperparameters_round_trip", "order must be 4.0 after setting it, got 2")
class Clamps(MeanDistance):
    def set_hyperparameters(self, **kwargs):
        return super().set_hyperparameters(**{k: min(v, 2) for k, v in kwargs.items()})


@must_fail("test_08_unknown_hyperparameters_raise", "must raise ValueError, but returned")
class TakesAnyName(MeanDistance):
    def set_hyperparameters(self, **kwargs):
        known = {k: v for k, v in kwargs.items() if k in self.hyperparameter_space}
        return super().set_hyperparameters(**known)


@must_fail("test_08_bad_values_raise", r"set_hyperparameters\(order=nan\) must raise ValueError")
class TakesAnyValue(MeanDistance):
    order = 2.0


@must_fail("test_08_grid_search_leaves_the_best", "but left the detector with")
class TunesItself(MeanDistance):
    def fit_features(self, x, y):
        super().fit_features(x, y)
        self.order = 3
        return self


@must_fail("test_09_benchmark_alone", "must report the AUROC of the detector's scores")
class OtherSignOnFeatures(MeanDistance):
    def predict(self, x):
        return -super().predict(x)


@must_fail("test_09_benchmark_in_a_list", "must report the AUROC of the detector's scores")
class ForgetsWhenMoved(MeanDistance):
    def to(self, device):
        self.mean = None if self.mean is None else 5 * self.mean + 3
        return super().to(device)


@must_fail("test_10_threads_get_the_scores_of_one", "must get the scores of a single thread")
class KeepsFeatures(MeanDistance):
    def predict(self, x):
        self.features = self.encoder(x).detach()
        time.sleep(1e-3)
        return self.predict_features(self.features)


@must_fail("test_10_many_calls_leave_nothing_behind", "No hook must stay on the model")
class LeavesHook(MeanDistance):
    def predict(self, x):
        handle = self.encoder[-1].register_forward_hook(_watch)
        scores = super().predict(x)
        handle.remove()
        return scores


def encoder() -> nn.Module:
    """A small encoder in evaluation mode, of fixed weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6)
        return nn.Sequential(*layers).eval()
