import random
import threading

import numpy as np
import pytest
import torch
from manners import untouched
from networks import SmallNet, build
from torch import nn

from pytorch_ood_viyog.layer.manners import as_found, modules_of, same_random_state, unwrap


class Frozen(nn.Module):
    """Overrides train() to keep a part frozen, which eval() and train() would undo."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def train(self, mode=True):
        super().train(mode)
        self.norm.training = not mode
        return self

    def forward(self, x):
        return self.norm(self.conv(x))


def draw_and_fail():
    torch.rand(100)
    raise ArithmeticError


def test_unwrap_takes_wrappers_off_in_any_nesting(model):
    model.module = nn.Identity()  # no wrapper for that
    compiled = torch.compile(model, backend="eager")
    parallel = torch.compile(nn.DataParallel(model), backend="eager")
    for wrapped in (model, nn.DataParallel(model), compiled, nn.DataParallel(compiled), parallel):
        assert unwrap(wrapped) is model


def test_evaluation_mode_inside_and_every_mode_back_after(model):
    model.train()
    model.body[0].eval()  # a mixed state, which train() alone would not restore
    with untouched(model), as_found(model):
        assert not any(module.training for module in model.modules())


def test_a_train_method_that_keeps_parts_frozen_is_not_called():
    model = Frozen().train()
    assert model.training
    assert not model.norm.training
    with untouched(model), as_found(model):
        assert not any(module.training for module in model.modules())


def test_modes_are_restored_after_an_exception(model):
    model.train()
    with untouched(model), pytest.raises(ArithmeticError), as_found(model):
        draw_and_fail()


def test_no_gradients_inside(model):
    with as_found(model):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_random_state_comes_back_also_after_an_exception():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with pytest.raises(ArithmeticError), same_random_state():
        draw_and_fail()
    assert torch.equal(torch.rand(4), expected)


def test_other_libraries_random_state_is_not_touched(model):
    random.seed(1)
    np.random.seed(1)
    with untouched(model), as_found(model):
        pass


def test_two_threads_in_one_training_model_restore_its_mode(model):
    model.train()
    inside, leave = threading.Event(), threading.Event()

    def first():
        with as_found(model):
            inside.set()
            leave.wait(10)

    def second():
        with as_found(model):
            assert not model.training

    one = threading.Thread(target=first)
    two = threading.Thread(target=second)
    one.start()
    inside.wait(10)
    two.start()
    leave.set()
    one.join(10)
    two.join(10)
    assert all(module.training for module in model.modules())


def test_overlapping_threads_leave_a_compiled_model_compiled():
    runs = []

    def counting(graph, _):
        def run(*args):
            runs.append(1)
            return graph(*args)

        return run

    model = build(SmallNet)
    model.body = torch.compile(model.body, backend=counting)
    x = torch.rand(2, 3, 8, 8)
    model(x)
    assert len(runs) == 1

    inside, leave = threading.Event(), threading.Event()
    first_left, second_inside = threading.Event(), threading.Event()

    def first():
        with as_found(model):
            inside.set()
            second_inside.wait(10)
        first_left.set()

    def second():
        inside.wait(10)
        with as_found(model):
            second_inside.set()
            first_left.wait(10)
            model(x)
            assert len(runs) == 1, "compiled code ran although hooks need eager code"
        leave.set()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert leave.is_set()
    model(x)
    assert len(runs) == 2, "the model stayed in eager mode"


def test_modules_of_a_model(model):
    model.twice = model.stem
    model.register_module("none", None)
    found = modules_of(model)
    assert set(found) == set(model.modules())
    assert len(found) == len(set(found))
