"""Another output in place of a layer's: for one pass, one thread, the first run alone."""

import threading

import pytest
import torch
from networks import SmallNet, UsedTwice, build
from torch import nn
from wrapped import Packed

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


def answers(pack, **how):
    pooled = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return Answers(Packed(nn.Sequential(*pooled), pack), **how).logits(X)


@pytest.mark.parametrize(
    ("pack", "pick"),
    [
        (lambda y: (y, None), lambda output: output[0]),
        (lambda y: {"answer": y, "other": y}, lambda output: output["answer"]),
    ],
)
def test_logits_are_picked(pack, pick):
    assert answers(pack, pick=pick).shape == (4, 4)
    with pytest.raises(TypeError, match=r"logits=lambda output: output\[0\]"):
        answers(pack)


def test_what_is_called_logits_needs_no_pick():
    assert answers(lambda y: {"hidden": None, "logits": y}).shape == (4, 4)


@pytest.mark.parametrize(
    ("pack", "error", "message"),
    [
        (lambda y: y[:, :1], TypeError, "a regression has no answer that could change"),
        (lambda y: y.long(), TypeError, "a regression has no answer that could change"),
        (lambda y: y[..., None], ValueError, r"\(B, C\) with B = 4, got \(4, 4, 1\)"),
    ],
)
def test_other_answers_are_refused_with_the_reason(pack, error, message):
    with pytest.raises(error, match=message):
        answers(pack)


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


def test_integers_that_the_model_does_not_take():
    with pytest.raises(TypeError, match=r"SmallNet does not run on torch.uint8 .*x.float"):
        Answers(build(SmallNet)).logits((255 * X).byte())
    with pytest.raises(RuntimeError) as told:  # another fault
        Answers(build(SmallNet)).logits((255 * X[:, :2]).byte())
    assert "does not run on" not in str(told.value)
