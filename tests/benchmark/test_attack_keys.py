"""What stored attacks belong to: behaviour of the model, settings of any attack."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from pytorch_ood_viyog.benchmark.attacks import as_attack, craft
from pytorch_ood_viyog.benchmark.attacks.keys import described


class Scale:
    """Normalises as torchvision's ``Normalize`` does: no state, and a repr that tells nothing."""

    def __init__(self, mean):
        self.mean = mean

    def __call__(self, x):
        return x - self.mean


class Net(nn.Module):
    """Class 1 where the normalised image is positive, or brighter than ``surprise``."""

    def __init__(self, mean, surprise=2.0):
        super().__init__()
        self.scale = Scale(mean)
        self.surprise = surprise
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        mean = self.scale(x).flatten(1).mean(1) * self.weight
        brighter = x.flatten(1).mean(1) > self.surprise
        mean = torch.where(brighter, -mean, mean)
        return torch.stack([-mean, mean], 1)


def brighten(model, x, y, by=0.3):
    return (x + by).clamp(0, 1)


X = torch.linspace(0.25, 0.45, 12).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).clone()
Y = torch.zeros(12, dtype=torch.long)


def run(model, attack, folder, **options):
    return craft(model, attack, X, Y, cache=folder, progress=False, **options)


def test_the_same_weights_behind_another_normalisation_are_another_model(tmp_path):
    wrong, right = Net(0.5), Net(0.7)
    assert run(wrong, brighten, tmp_path).size.succeeded == 12
    found = run(right, brighten, tmp_path)
    assert right(found.x).argmax(1).tolist() == [1] * found.size.succeeded
    assert found.size.succeeded < 12
    assert len(list(tmp_path.iterdir())) == 2


def test_stored_successes_that_fool_no_more_are_attacked_again(tmp_path):
    """The model differs where the few images of the key do not show it."""
    assert run(Net(0.5), brighten, tmp_path, batch_size=6).size.succeeded == 12
    with pytest.warns(UserWarning, match="batch 1 was stored, which is computed again"):
        found = run(Net(0.5, surprise=0.71), brighten, tmp_path, batch_size=6)
    assert found.size.succeeded == 9
    assert len(list(tmp_path.iterdir())) == 1


def torchattacks_like(**settings):
    """An attack whose repr leaves private settings out, as torchattacks' does."""

    class PGD:
        def __init__(self):
            self.eps = 0.3
            self.__dict__.update(settings)

        def __call__(self, x, y):
            return x

        def __repr__(self):
            return f"PGD(eps={self.eps})"

    PGD.__module__ = "torchattacks.attacks.pgd"
    return PGD()


SHIFT = 1


def named_global(model, x, y):
    return x + SHIFT


def make(step):
    return lambda model, x, y: x + step


DIFFERENT = {
    "private settings": (
        as_attack(torchattacks_like(_target=lambda x, y: y + 1)),
        as_attack(torchattacks_like(_target=lambda x, y: y + 5)),
    ),
    "code": (lambda model, x, y: x, lambda model, x, y: x + 1),
    "closure": (make(1), make(2)),
    "default": (lambda m, x, y, by=1: x + by, lambda m, x, y, by=2: x + by),
    "partial": (partial(brighten, by=0.1), partial(brighten, by=0.2)),
    "tensor": (make(torch.zeros(2)), make(torch.ones(2))),
    "array": (make(np.zeros(2)), make(np.ones(2))),
    "weights": (make(Net(1)), make(Net(2))),
    "settings": (as_attack(brighten, by=0.1), as_attack(brighten, by=0.2)),
    "targets": (
        as_attack(lambda m, x, y, targeted: x, targets=1),
        as_attack(lambda m, x, y, targeted: x, targets=2),
    ),
    "generator": (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
    "nested functions": (
        lambda m, x, y: (lambda z: z)(x),
        lambda m, x, y: (lambda z: -z)(x),
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_different_settings_have_different_keys(what):
    one, other = DIFFERENT[what]
    assert described(one) == described(one)
    assert described(one) != described(other)


def test_a_constant_that_a_function_names_counts(monkeypatch):
    before = described(named_global)
    monkeypatch.setattr(f"{__name__}.SHIFT", 2)
    assert described(named_global) != before


def test_keys_are_the_same_in_another_process():
    attacks = ["partial(brighten, by=0.1)", "make(3)", "torchattacks_like(_k=len)", "Scale(0.5)"]
    printing = "; ".join(f"print(described({attack}))" for attack in attacks)
    code = f"from test_attack_keys import *; {printing}"
    folder = __file__.rsplit("/", 1)[0]  # where python -c looks first
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    assert done.stdout.splitlines() == [eval(f"described({attack})") for attack in attacks]


def test_cycles_end():
    ring = Scale([])
    ring.mean.append(ring)
    assert described(ring) == described(ring)


def test_functions_partials_and_lambdas_are_stored_and_found(tmp_path):
    for _ in range(2):
        run(Net(0.5), brighten, tmp_path)
        run(Net(0.5), partial(brighten, by=0.25), tmp_path)
        run(Net(0.5), lambda model, x, y: brighten(model, x, y), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_key_of_ones_own_takes_the_place_of_the_settings(tmp_path):
    run(Net(0.5), as_attack(brighten, key="mine", by=0.3), tmp_path)
    run(Net(0.5), as_attack(make(0.3), key="mine"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    run(Net(0.5), as_attack(brighten, key="other", by=0.3), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_settings_that_cannot_be_told_ask_for_a_key(tmp_path):
    with pytest.raises(ValueError, match=r"give key="):
        run(Net(0.5), make(iter([])), tmp_path)
    held = iter([])
    assert run(Net(0.5), lambda m, x, y: (x, held)[0], None).size.attacked == 12  # no cache
