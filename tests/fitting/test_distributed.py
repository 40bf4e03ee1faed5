"""Fits by two processes of a gloo group against one fit to all of the data."""

import multiprocessing

import pytest
import torch
from distributed_worker import DETECTORS, SHARES, batches, fitted, main

from pytorch_ood_viyog.fitting.distributed import merged_over_ranks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each of two processes ended with, by (case, rank)."""
    folder = tmp_path_factory.mktemp("ranks")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["distributed_worker"])  # one import for both
    processes = [context.Process(target=main, args=(rank, 2, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        assert process.exitcode == 0, "its error is among what was printed"
    return {
        (case, rank): torch.load(folder / f"{case} {rank}.pt", weights_only=True)
        for case in [*SHARES, "errors"]
        for rank in range(2)
    }


@pytest.fixture(scope="module")
def alone():
    return {name: d.state_dict() for name, d in fitted(batches()).items()}


@pytest.mark.parametrize("case", SHARES)
@pytest.mark.parametrize("name", DETECTORS)
def test_every_rank_ends_with_the_state_of_a_single_fit(results, alone, case, name):
    for rank in range(2):
        state = results[case, rank][name]
        assert state["layer"] == "stem.conv"
        assert state["layout"] == alone[name]["layout"]
        for tensor, expected in alone[name]["tensors"].items():
            torch.testing.assert_close(state["tensors"][tensor], expected, rtol=1e-9, atol=1e-12)


def test_a_failure_is_raised_on_all_ranks(results):
    own, other = results["errors", 0], results["errors", 1]
    assert own[0] == "ArithmeticError: raised by the user's loader"
    assert other[0].startswith("RuntimeError: Fitting failed on other processes. rank 0: Arith")
    for messages in (own, other):
        assert messages[1].startswith("ValueError: data_loader holds no ID samples")


def test_without_a_group_nothing_is_merged():
    found = ("conv", {"count": torch.tensor(3)})
    assert merged_over_ranks(lambda: found, lambda *_: pytest.fail("merged")) is found
