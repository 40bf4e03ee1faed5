"""
The contract finds what it is for: each check fails on a detector with that one defect.
"""

import pytest
import torch
from broken_detectors import BROKEN, MeanDistance, encoder

from pytorch_ood_viyog.testing import ContractError, DetectorContract
from pytorch_ood_viyog.testing.expect import checks_of

pytest_plugins = ["pytester"]

CHECKS = checks_of(DetectorContract)


class Contract(DetectorContract):
    runs_model_as_is = True

    def anomaly(self, x):
        return 5 * x


@pytest.fixture
def loader():
    images = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(16) % 4
    return list(zip(images.split(8), labels.split(8), strict=True))


def test_each_check_has_a_defect():
    assert sorted(BROKEN) == CHECKS


@pytest.mark.parametrize("check", CHECKS)
def test_defect_is_found(check, loader):
    kind, message = BROKEN[check]
    with pytest.raises(ContractError, match=message):
        getattr(Contract(), check)(kind(encoder()), loader)


@pytest.mark.parametrize("check", CHECKS)
def test_sound_detector_passes(check, loader):
    getattr(Contract(), check)(MeanDistance(encoder()), loader)


def test_a_fit_that_reads_memory_in_its_own_order_is_found(loader):
    class FitsMemory(MeanDistance):
        def fit(self, loader):
            def as_in_memory(x):
                return x if x.is_contiguous() else x.permute(0, 2, 3, 1).reshape(x.shape)

            return super().fit([(as_in_memory(x), *rest) for x, *rest in loader])

    with pytest.raises(ContractError, match=r"mixed up do far more\): \d+ of \d+ scores differ"):
        Contract().test_07_channels_last_gives_the_same_scores(FitsMemory(encoder()), loader)


def test_growing_memory_is_found(loader):
    class Collects(MeanDistance):
        def predict(self, x):
            self.seen = [*getattr(self, "seen", []), x.clone()]
            return super().predict(x)

    with pytest.raises(ContractError, match=r"No memory must stay behind, but [0-9]+ objects"):
        Contract().test_10_many_calls_leave_nothing_behind(Collects(encoder()), loader)


@pytest.mark.parametrize(
    ("declared", "check", "message"),
    [
        ({"ood_labels_change_fit": True}, "test_03_ood_labels_do_not_change_the_fit", "declared"),
        ({"grid_scores": True}, "test_04_scores_are_one_finite_float_per_sample", r"\(B, H, W\)"),
        ({"grid_scores": True}, "test_01_info_is_there_and_true", "SEGMENTATION"),
        (
            {"bad_hyperparameters": {"order": [2]}},
            "test_08_bad_values_raise",
            r"order=2\) must raise",
        ),
        (
            {"anomaly": DetectorContract.anomaly},
            "test_04_anomalies_score_higher",
            r"must declare anomaly\(x\)",
        ),
        (
            {"other_id": lambda self, x: x},
            "test_03_refit_replaces_the_state",
            r"declare other_id\(x\)",
        ),
        (
            {"without_model": lambda self, detector: 1 / 0},
            "test_02_model_less_use_raises",
            r"declare without_model\(detector\)",
        ),
    ],
)
def test_wrong_declaration_is_found(declared, check, message, loader):
    wrong = type("Wrong", (Contract,), declared)()
    with pytest.raises(ContractError, match=message):
        getattr(wrong, check)(MeanDistance(encoder()), loader)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([(torch.rand(8, 3, 8, 8), torch.zeros(8))], "at least two batches"),
        ([(torch.rand(8, 3, 8, 8), torch.full((8,), -1))] * 2, "ID samples only"),
    ],
)
def test_unusable_loader_is_refused(batches, message):
    with pytest.raises(ContractError, match=message):
        Contract().test_03_fit_returns_the_detector(MeanDistance(encoder()), batches)


def test_unknown_expected_failure_is_refused():
    with pytest.raises(TypeError, match=r"checks that do not exist: \['test_99'\]"):
        type("Wrong", (Contract,), {"expected_failures": {"test_99": "no such check"}})


SUITE = """
import pytest
from pytorch_ood_viyog.testing import DetectorContract
from pytorch_ood_viyog.testing.declarations import Declarations
from pytorch_ood_viyog.testing.expect import check, expect

class Small(Declarations):
    "A contract of two checks; the detector is a number."

    @check
    def test_01_even(self, detector, loader):
        expect(detector % 2 == 0, f"must be even, got {detector}")

    @check
    def test_02_small(self, detector, loader):
        expect(detector < 10, f"must be small, got {detector}")

    test_every_check_ran = DetectorContract.test_every_check_ran

    @pytest.fixture
    def detector(self):
        return 4

    @pytest.fixture
    def loader(self):
        return []

class TestSound(Small):
    pass

class TestFails(Small):
    @pytest.fixture
    def detector(self):
        return 5

class TestListed(TestFails):
    expected_failures = {"test_01_even": "odd by design"}

class TestListedWrongly(Small):
    expected_failures = {"test_02_small": "no longer true"}

class TestSkips(Small):
    @pytest.mark.skip(reason="too hard")
    def test_02_small(self, detector, loader):
        pass

class TestDrops(Small):
    test_01_even = None
"""


def test_expected_failures_and_the_count(pytester):
    pytester.makepyfile(test_suite=SUITE)
    result = pytester.runpytest_inprocess("-rA", "-p", "no:cacheprovider")
    lines = "\n".join(result.outlines)
    for line in (
        "FAILED test_suite.py::TestFails::test_01_even",
        "XFAIL test_suite.py::TestListed::test_01_even - odd by design (must be even, got 5)",
        "FAILED test_suite.py::TestListedWrongly::test_02_small",
        "test_02_small passes, but is listed in expected_failures (no longer true).",
        "FAILED test_suite.py::TestSkips::test_every_check_ran",
        "1 of 2 checks did not run: ['test_02_small']",
        "FAILED test_suite.py::TestDrops::test_every_check_ran",
        "1 of 2 checks did not run: ['test_01_even']",
    ):
        assert line in lines
    result.assert_outcomes(passed=11, failed=4, xfailed=1, skipped=1)


def test_all_37_checks_are_there():
    assert len(CHECKS) == 37
    assert sorted({name[5:7] for name in CHECKS}) == [f"{n:02}" for n in range(1, 11)]
