"""Another output in place of a layer's: for one pass, one thread, the first run alone."""

import threading

import pytest
import torch
from manners import untouched
from networks import SmallNet, UsedTwice, build
from torch import nn

from pytorch_ood_viyog.looks.logits import Answers

X = torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))


def test_only_the_first_run_is_changed():
    model = build(UsedTwice)
    wanted = model.conv(10 * torch.zeros(4, 3, 10, 10)).mean(dim=(2, 3))
    got = Answers(model).logits(X, change=lambda call: torch.zeros_like(call.maps()))
    assert torch.allclose(got, wanted)


def test_the_users_hooks_see_the_change():
    model, seen = build(SmallNet), []
    model.stem.conv.register_forward_hook(lambda layer, args, output: seen.append(output))
    Answers(model).logits(X, change=lambda call: torch.zeros_like(call.maps()))
    assert float(seen[-1].abs().max()) == 0  # before it, the layer was looked for


# -- answers -------------------------------------------------------------------------------------


class Output(nn.Module):
    def __init__(self, pack):
        super().__init__()
        self.conv, self.pack = nn.Conv2d(3, 4, 3), pack

    def forward(self, x):
        return self.pack(self.conv(x).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("pack", "pick"),
    [
        (lambda y: (y, None), lambda output: output[0]),
        (lambda y: {"answer": y, "other": y}, lambda output: output["answer"]),
    ],
)
def test_logits_are_picked(pack, pick):
    assert Answers(Output(pack), pick=pick).logits(X).shape == (4, 4)
    with pytest.raises(TypeError, match=r"logits=lambda output: output\[0\]"):
        Answers(Output(pack)).logits(X)


def test_what_is_called_logits_needs_no_pick():
    assert Answers(Output(lambda y: {"hidden": None, "logits": y})).logits(X).shape == (4, 4)


@pytest.mark.parametrize("pack", [lambda y: y[:, :1], lambda y: y.long()])
def test_a_regression_is_refused_with_the_reason(pack):
    with pytest.raises(TypeError, match="a regression has no answer that could change"):
        Answers(Output(pack)).logits(X)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(B, C\) with B = 4, got \(4, 4, 1\)"):
        Answers(Output(lambda y: y[..., None])).logits(X)


def test_the_model_is_left_as_found_also_after_an_error():
    model = build(SmallNet).train()
    with untouched(model):
        Answers(model).logits(X, change=lambda call: call.maps())

    def fail(call):
        raise ArithmeticError("raised by the change")

    with untouched(model), pytest.raises(ArithmeticError, match="raised by the change"):
        Answers(model).logits(X, change=fail)


def test_another_thread_is_not_changed():
    model = build(SmallNet)
    wanted, found = model(X), []

    def change(call):
        other = threading.Thread(target=lambda: found.append(model(X)))
        other.start()
        other.join()
        return torch.zeros_like(call.maps())

    changed = Answers(model).logits(X, change=change)
    assert torch.equal(found[0], wanted)
    assert not torch.allclose(changed, wanted)
