import threading

import pytest
import torch
from manners import count_hooks, untouched
from networks import (
    Faulty,
    InPlaceStem,
    LateStem,
    Signal,
    Swallowing,
    Unused,
    UsedTwice,
    Volume,
    build,
)
from torch import nn

from pytorch_ood_viyog.layer.first_layer import FirstLayer


def read_maps(call):
    return call.maps()


@pytest.mark.parametrize(
    ("network", "shape", "name"),
    [
        (InPlaceStem, (2, 3, 8, 8), "conv"),
        (UsedTwice, (2, 3, 8, 8), "conv"),
        (LateStem, (2, 3, 8, 8), "stem"),
        (Signal, (2, 2, 20), "0"),
        (Volume, (2, 1, 8, 8, 8), "0"),
        (Swallowing, (2, 3, 8, 8), "conv"),
    ],
)
def test_the_first_convolution_to_run_is_read_raw(network, shape, name):
    model, x = build(network), torch.rand(shape)
    first_layer = FirstLayer(model)
    assert first_layer.name is None
    with untouched(model):
        maps = first_layer.run(x, read_maps)
    assert first_layer.name == name
    layer = model.get_submodule(name)
    assert torch.equal(maps, layer._conv_forward(x, layer.weight, layer.bias))
    assert bool((maps < 0).any())  # raw: no activation was applied
    assert not maps.requires_grad


def test_a_model_that_is_itself_a_convolution():
    conv, x = nn.Conv2d(3, 4, 3), torch.rand(2, 3, 8, 8)
    assert torch.equal(FirstLayer(conv).run(x, read_maps), conv(x).detach())


@pytest.mark.parametrize(
    "layer",
    ["body.2", "module.body.2", "_orig_mod.body.2", "_orig_mod.module.body.2"],
)
def test_a_named_layer_is_read_with_or_without_wrapper_prefixes(model, layer, images):
    first_layer = FirstLayer(model, layer)
    assert first_layer.name == "body.2"
    assert first_layer.run(images, read_maps).shape == (64, 4, 8, 8)


def test_a_layer_given_as_module(model, images):
    first_layer = FirstLayer(nn.DataParallel(model), model.body[2])
    assert first_layer.name == "body.2"
    assert first_layer.run(images, read_maps).shape == (64, 4, 8, 8)


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [("stem.conf", "'stem.conf'"), ("", "''"), (nn.Conv2d(3, 4, 3), "the module Conv2d")],
)
def test_a_layer_that_does_not_exist(model, layer, wanted):
    with pytest.raises(ValueError, match=rf"SmallNet does not contain.*{wanted}") as caught:
        FirstLayer(model, layer)
    assert "stem.conv, body.2" in str(caught.value)


def test_long_lists_of_convolutions_are_cut():
    model = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(30)])
    with pytest.raises(ValueError, match="18, 19 and 10 more"):
        FirstLayer(model, "x")


@pytest.mark.parametrize("layer", [None, "spare"])
def test_a_layer_that_never_runs(layer):
    model, x = build(Unused), torch.rand(2, 3, 8, 8)
    wanted = "'spare'" if layer else "A convolution"
    with untouched(model), pytest.raises(RuntimeError, match="never runs") as caught:
        FirstLayer(model, layer).run(x, read_maps)
    assert wanted in str(caught.value)
    assert "Its convolutions are: spare." in str(caught.value)


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
