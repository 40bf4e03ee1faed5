import threading

import pytest
import torch
from manners import count_hooks, untouched
from networks import Faulty, Swallowing, build
from torch import nn

from pytorch_ood_viyog.layer.first_layer import FirstLayer


def read_maps(call):
    return call.maps()


def test_a_model_that_is_itself_a_convolution():
    conv, x = nn.Conv2d(3, 4, 3), torch.rand(2, 3, 8, 8)
    assert torch.equal(FirstLayer(conv).run(x, read_maps), conv(x).detach())


def test_long_lists_of_convolutions_are_cut():
    model = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(30)])
    with pytest.raises(ValueError, match="18, 19 and 10 more"):
        FirstLayer(model, "x")


def test_a_layer_that_takes_two_tensors_is_refused():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.add = nn.Bilinear(2, 2, 2)

        def forward(self, x):
            return self.add(x, x)

    model, x = Pair(), torch.rand(2, 2)
    with untouched(model), pytest.raises(TypeError, match=r"'add' must take one tensor.*Tensor"):
        FirstLayer(model, "add").run(x, read_maps)


def test_a_convolution_called_by_keyword():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(input=x)

    model, x = Keyword(), torch.rand(2, 3, 8, 8)
    assert torch.equal(FirstLayer(model).run(x, read_maps), model.conv(x).detach())


def test_hooks_of_the_user_act_on_the_input_and_stay(model, images):
    model.stem.conv.register_forward_pre_hook(lambda _, args: (2 * args[0],))
    seen = []
    model.stem.conv.register_forward_hook(lambda *_: seen.append(1))
    with untouched(model):
        maps = FirstLayer(model).run(images, read_maps)
    expected = model.stem.conv.forward(2 * model.stem.norm(images)).detach()
    assert torch.equal(maps, expected)
    assert count_hooks(model) == 2
    assert seen == [1]  # once, when the layer was looked for; raw output is read without them


def test_gradients_that_the_model_switches_on_do_not_reach_the_maps():
    class Saliency(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        @torch.enable_grad()
        def forward(self, x):
            return self.conv(x)

    maps = FirstLayer(Saliency()).run(torch.rand(2, 3, 8, 8), read_maps)
    assert not maps.requires_grad


@pytest.mark.parametrize("network", [Faulty, Swallowing])
def test_an_exception_of_the_reader_comes_through(network):
    def read(call):
        raise ZeroDivisionError

    model, x = build(network), torch.rand(2, 3, 8, 8)
    with untouched(model), pytest.raises(ZeroDivisionError):
        FirstLayer(model).run(x, read)


class Gate(nn.Module):
    """Lets the one marked thread wait inside the forward pass, before the convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.marked = None
        self.inside, self.leave = threading.Event(), threading.Event()
        self.hooks = []

    def forward(self, x):
        if threading.get_ident() == self.marked:
            self.hooks = list(self.conv._forward_pre_hooks.values())
            self.inside.set()
            assert self.leave.wait(10)
        return self.conv(x)


def test_a_hook_that_another_thread_meets_half_registered_is_harmless():
    # torch stores the hook and the flag "with_kwargs" one after the other: another thread may
    # find the hook without its flag and call it without keyword arguments
    model, x = Gate().eval(), torch.rand(2, 3, 8, 8)

    def read():
        model.marked = threading.get_ident()
        FirstLayer(model).run(x, read_maps)

    thread = threading.Thread(target=read)
    thread.start()
    assert model.inside.wait(10)
    answers = [hook(model.conv, (x,)) for hook in model.hooks]
    model.leave.set()
    thread.join(10)
    assert answers == [None]


def test_a_forward_pass_in_another_thread_is_neither_stopped_nor_read():
    model, mine, other = Gate().eval(), torch.rand(2, 3, 8, 8), torch.rand(5, 3, 8, 8)
    result = []

    def read():
        model.marked = threading.get_ident()
        result.append(FirstLayer(model).run(mine, read_maps))

    thread = threading.Thread(target=read)
    thread.start()
    assert model.inside.wait(10)
    output = model(other)  # while the other thread's hook is registered
    assert output.shape == (5, 4, 6, 6)
    model.leave.set()
    thread.join(10)
    assert torch.equal(result[0], model.conv(mine).detach())


class Patches(nn.Module):
    """Cuts patches, which PyTorch does for floats alone, before a Linear layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(48, 16)

    def forward(self, x):
        return self.embed(nn.functional.unfold(x, 4, stride=4).mT).mean(dim=1)


def test_integers_that_stop_before_the_layer_are_not_read_as_floats():
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    read = FirstLayer(Patches(), "input > embed")
    assert read.run(x, lambda call: call.maps()).shape == (3, 16, 2, 2)
    with pytest.raises(TypeError, match=r"Patches does not run on torch.uint8"):
        read.run((255 * x).byte(), lambda call: call.maps())
