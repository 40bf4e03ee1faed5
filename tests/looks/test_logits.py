"""Another output in place of a layer's: for one pass, one thread, the first run alone."""

import pytest
import torch
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
