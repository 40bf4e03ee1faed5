import threading

import pytest
import torch
from inside import Small
from manners import untouched
from networks import SmallNet, build
from smooth_images import images
from torch import nn

from pytorch_ood_viyog import ViyogResidue
from pytorch_ood_viyog.layer.manners import as_found, unwrap


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


def test_unwrap_takes_wrappers_off_in_any_nesting(model):
    model.module = nn.Identity()  # no wrapper for that
    compiled = torch.compile(model, backend="eager")
    parallel = torch.compile(nn.DataParallel(model), backend="eager")
    for wrapped in (model, nn.DataParallel(model), compiled, nn.DataParallel(compiled), parallel):
        assert unwrap(wrapped) is model


def test_a_train_method_that_keeps_parts_frozen_is_not_called():
    model = Frozen().train()
    assert model.training
    assert not model.norm.training
    with untouched(model), as_found(model):
        assert not any(module.training for module in model.modules())


def test_overlapping_threads_leave_a_compiled_model_compiled():
    runs = []

    def counting(graph, _):
        def run(*args):
            runs.append(1)
            return graph(*args)

        return run

    model = build(SmallNet)
    model.body = torch.compile(model.body, backend=counting)
    model.train()
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
            assert not model.training
            model(x)
            assert len(runs) == 1, "compiled code ran although hooks need eager code"
        leave.set()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert leave.is_set()
    assert all(module.training for module in model.modules())
    model(x)
    assert len(runs) == 2, "the model stayed in eager mode"


def test_warnings_point_at_the_line_of_the_user():
    """Found in a hook in the user's model, behind decorators of torch, or in a fit."""
    grey, colour = (images(n, s, 32) for n, s in ((70, 0), (8, 1)))
    grey = grey[:, :1].repeat(1, 3, 1, 1)
    detector = ViyogResidue(Small(maps=40)).fit([grey], progress=False)
    rank_one = nn.Sequential(nn.Conv2d(3, 1, 1))
    ask = [
        lambda: detector.predict(colour),
        lambda: detector(colour),
        lambda: ViyogResidue(rank_one).fit([torch.rand(70, 3, 9, 9)], progress=False),
    ]
    for one in ask:
        with pytest.warns(UserWarning, match="ID") as caught:
            one()
        line = one.__code__.co_firstlineno
        assert {(each.filename, each.lineno) for each in caught} == {(__file__, line)}
