"""What our detectors share beyond the contract: streaming, invariances, bad input, manners."""

import copy
import math
import pickle
import weakref

import pytest
import torch
from manners import untouched
from networks import (
    InPlaceStem,
    LateStem,
    Lazy,
    Signal,
    SmallNet,
    Swallowing,
    Unused,
    UsedTwice,
    Volume,
    build,
)
from pytorch_ood.api import (
    FeatureMapsDetector,
    FeaturesDetector,
    ModelNotSetException,
    RequiresFittingException,
)
from torch import nn
from wrapped import Normalised


def first_maps(model, images):
    """The first layer's raw maps of a SmallNet, computed by hand."""
    with torch.no_grad():
        return model.stem.conv(model.stem.norm(images))


@pytest.fixture
def scores(fitted, images):
    return fitted(images)


@pytest.fixture
def from_maps(make, model):
    """A new detector without model that knows the convolution."""
    return lambda: make(None, layer=model.stem.conv)


# -- API -------------------------------------------------------------------------------------


def test_what_it_is(make, model, loader):
    detector = make(model)
    assert isinstance(detector, FeatureMapsDetector)
    # pytorch-ood would flatten the maps of these
    assert not isinstance(detector, FeaturesDetector)
    assert detector.info.ai_coded is True
    assert detector.hyperparameter_space
    for name, value in detector.get_hyperparameters().items():
        assert value in detector.hyperparameter_space[name]
        assert f"{name}={value!r}" in repr(detector)
    assert repr(detector).startswith(f"{type(detector).__name__}(model=SmallNet, ")
    assert "fitted=False" in repr(detector)
    assert detector.layer_name is None
    detector.fit(loader)
    assert detector.layer_name == "stem.conv"
    assert "layer='stem.conv'" in repr(detector)
    assert "fitted=True" in repr(detector)
    without = make(None, layer=model.stem.conv)
    assert "model=None" in repr(without)
    assert without.layer_name is None
    with pytest.raises(TypeError, match="positional"):
        make(model, "stem.conv")


def test_both_name_pairs_fit_alike(from_maps, model, images):
    maps, y = first_maps(model, images), torch.arange(64) % 5 - 1
    one = from_maps().fit_features(maps, y).predict_features(maps)
    other = from_maps().fit_feature_maps(maps, y).predict_feature_maps(maps)
    keywords = from_maps().fit_features(maps=maps, y=y).predict_features(maps=maps)
    assert torch.equal(one, other)
    assert torch.equal(one, keywords)
    detector = from_maps()
    assert detector.fit_feature_maps(maps) is detector
    assert detector.partial_fit_features(maps) is detector
    assert detector.predict_features(maps[:0]).shape == (0,)
    with pytest.raises(ValueError, match="maps holds no ID samples"):
        detector.fit_features(maps[:0])


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_a_named_layer_is_read(make, model, loader, images, scores, prefix):
    for name, module, same in (
        ("stem.conv", model.stem.conv, True),
        ("body.2", model.body[2], False),
    ):
        named, given = make(model, layer=prefix + name), make(model, layer=module)
        assert named.layer_name == given.layer_name == name
        found = named.fit(loader)(images)
        assert torch.equal(given.fit(loader)(images), found)
        assert torch.equal(found, scores) is same


# -- streaming, batches, labels --------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64])
def test_neither_order_nor_batches_of_a_fit_matter(make, close, model, images, scores, size):
    detector = make(model).fit(images[torch.randperm(64)].split(size))
    close(detector(images), scores)


def test_partial_fit_equals_fit(close, from_maps, model, images):
    maps, y = first_maps(model, images), torch.arange(64) % 3 - 1
    expected = from_maps().fit_features(maps, y).predict_features(maps)
    detector = from_maps()
    for part, labels in zip(maps.split(10), y.split(10), strict=True):
        detector.partial_fit_features(part, labels)
        detector.predict_features(part)  # usable at any time
    scores = detector.predict_features(maps)
    close(scores, expected)


def test_partial_fit_goes_on_after_fit(make, close, model, images, scores):
    detector = make(model).fit([images[:40]])
    detector.partial_fit_features(first_maps(model, images[40:]))
    close(detector(images), scores)


def test_partial_fit_of_a_batch_without_id_samples_adds_nothing(fitted, model, images, scores):
    fitted.partial_fit_features(100 * first_maps(model, images), -torch.ones(64))
    assert torch.equal(fitted(images), scores)


def test_more_maps_than_are_taken_at_once(close, from_maps):
    maps = torch.randn(700, 12, 4, 4)
    detector = from_maps()
    for part in maps.split(100):
        detector.partial_fit_features(part)
    scores = from_maps().fit_features(maps).predict_features(maps)
    close(detector.predict_features(maps), scores)


@pytest.mark.parametrize(
    "batches",
    [
        lambda x, y: [x],
        lambda x, y: [(x,)],
        lambda x, y: [[x, y]],
        lambda x, y: [(x, y.tolist())],
        lambda x, y: [(x, y.numpy(), "a file name", {"meta": 1})],
        lambda x, y: [x[:0], x, x[:0]],
        # bad values in a sample that is left out
        lambda x, y: [(torch.cat([x, x[:1] * math.nan]), [*y.tolist(), -1])],
    ],
)
def test_what_a_loader_may_yield(make, close, model, images, scores, batches):
    detector = make(model).fit(batches(images, torch.zeros(64, dtype=torch.int64)))
    close(detector(images), scores)


def test_fit_is_one_pass_and_keeps_no_batch(make, model, images):
    alive, most = weakref.WeakSet(), []

    class Batch:
        """Stands for the memory of one batch: lives as long as its tensor does."""

    def batches():
        for part in images.repeat(5, 1, 1, 1).split(16):
            batch, mark = part.clone(), Batch()
            batch.mark = mark
            alive.add(mark)
            del mark
            most.append(len(alive))
            yield batch
            del batch

    make(model).fit(batches(), progress=False)
    assert len(most) == 20
    assert max(most) <= 3


def test_state_does_not_grow_with_the_samples(make, model, images):
    def size(detector):
        tensors = [*detector._statistics.values(), *detector._state.values()]
        return sum(tensor.numel() for tensor in tensors)

    detector = make(model)
    small = size(detector.fit([images] * 4))
    assert size(detector.fit([images] * 12)) == small


# -- types, formats, sizes -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_maps_of_any_float_type_score_alike(close, from_maps, dtype):
    maps = torch.randint(-8, 9, (40, 12, 6, 6)).float()  # exact in all of them
    expected = from_maps().fit_features(maps).predict_features(maps)
    scores = from_maps().fit_features(maps.to(dtype)).predict_features(maps.to(dtype))
    assert scores.dtype in (torch.float32, torch.float64)
    close(scores.double(), expected.double())


def test_models_in_float64(make, images):
    model = build(SmallNet).double()
    detector = make(model)
    with untouched(model):
        scores = detector.fit([images.double()])(images.double())
    assert scores.shape == (64,)
    assert bool(scores.isfinite().all())


def test_maps_are_not_changed(from_maps, model, images):
    maps = first_maps(model, images)
    before = maps.clone().requires_grad_()
    detector = from_maps().fit_features(maps)
    assert torch.equal(detector.predict_features(before), detector.predict_features(maps))
    assert torch.equal(maps, before)
    assert not detector.fit_features(before).predict_features(before).requires_grad


def test_other_image_sizes_than_fitted(fitted):
    assert fitted(torch.rand(4, 3, 17, 9)).shape == (4,)


def test_fitted_in_inference_mode_and_used_outside(make, close, model, images, scores):
    with torch.inference_mode():
        detector = make(model).fit([images[:40]])
    detector.partial_fit_features(first_maps(model, images[40:]))
    close(detector(images), scores)
    with torch.inference_mode():
        close(detector(images), scores)


@pytest.mark.parametrize(
    ("network", "shape", "name"),
    [
        (InPlaceStem, (3, 9, 9), "conv"),
        (UsedTwice, (3, 9, 9), "conv"),
        (LateStem, (3, 9, 9), "stem"),
        (Swallowing, (3, 9, 9), "conv"),
        (Signal, (2, 40), "0"),
        (Volume, (1, 7, 8, 9), "0"),
    ],
)
def test_stems(make, close, network, shape, name):
    model, x = build(network), torch.rand(24, *shape)
    detector = make(model)
    with untouched(model):
        detector.fit([x[:16]])
        scores = detector(x)
    assert detector.layer_name == name
    layer = model.get_submodule(name)
    with torch.no_grad():
        maps = layer(x)
    close(scores, detector.predict_features(maps))
    assert scores.unique().numel() == 24


def test_a_lazy_model_that_has_run_once(make, images):
    model = Lazy().eval()
    detector = make(model)
    with pytest.raises(RuntimeError, match=r"lazy parameters.*Run the model once"):
        detector.fit([images])
    model(images)
    assert detector.fit([images])(images).shape == (64,)
    assert make(model).fit([images]).layer_name == "0"


# -- wrapped models --------------------------------------------------------------------------


@pytest.fixture
def process_group():
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.parallel.DistributedDataParallel])
def test_parallel_models(make, model, loader, images, scores, process_group, wrap):
    wrapped = wrap(model)
    with untouched(wrapped):
        assert torch.equal(make(wrapped).fit(loader)(images), scores)


def compiled(model):
    return torch.compile(model, backend="eager")


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


def compiled_in_part(model):
    model.stem = torch.compile(model.stem, backend="eager")
    return model


@pytest.mark.parametrize(
    ("wrap", "warm"),
    [(compiled, True), (compiled, False), (compiled_in_place, True), (compiled_in_part, False)],
)
def test_compiled_models(make, model, loader, images, scores, wrap, warm):
    expected, wrapped = model(images), wrap(model)
    if warm:
        expected = wrapped(images)
    with untouched(model):
        assert torch.equal(make(wrapped).fit(loader)(images), scores)
    assert torch.equal(wrapped(images), expected)


# -- bad input -------------------------------------------------------------------------------


def with_value(images, value, *samples):
    x = images.clone()
    for sample in samples:
        x[sample, 0, 1, 1] = value
    return x


def raising(error, *batches):
    yield from batches
    raise error


def zeros(*shape, **kwargs):
    return torch.zeros(*shape, **kwargs)


def test_raw_input_without_a_model(make, model, images, loader):
    detector = make(None, layer=model.stem.conv)
    with pytest.raises(ModelNotSetException, match=r"has no model.*fit_features"):
        detector.fit(loader)
    with pytest.raises(ModelNotSetException, match=r"has no model.*predict_features"):
        detector.predict(images)
    detector.fit_features(first_maps(model, images))
    with pytest.raises(ModelNotSetException):
        detector(images)


def test_no_convolution_in_the_model(make):
    with pytest.raises(RuntimeError, match=r"No convolution found: Sequential.*input > 0'"):
        make(nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(RuntimeError, match=r"No convolution found: ReLU.*layer='...'\.$"):
        make(nn.ReLU())


@pytest.mark.parametrize("layer", ["stem.conf", "", nn.Conv2d(3, 12, 3)])
def test_layer_that_does_not_exist(make, model, layer):
    with pytest.raises(ValueError, match=r"SmallNet does not contain") as caught:
        make(model, layer=layer)
    assert "Its convolutions are: stem.conv, body.2." in str(caught.value)


@pytest.mark.parametrize(("layer", "wanted"), [(None, "A convolution"), ("spare", "'spare'")])
def test_layer_that_never_runs(make, layer, wanted):
    model, x = build(Unused), torch.rand(4, 3, 8, 8)
    detector = make(model, layer=layer)
    message = rf"{wanted}.*never runs.*are: spare\."
    with untouched(model), pytest.raises(RuntimeError, match=message):
        detector.fit([x])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((lambda x: x, None), TypeError, r"model must be a torch.nn.Module or None, got function"),
        (("resnet18", None), TypeError, r"model must be .* got str"),
        ((nn.Conv2d(3, 4, 3), 3), TypeError, r"layer must be a dotted name or a module, got int"),
        ((None, "stem.conv"), ValueError, r"layer='stem.conv' needs a model"),
    ],
)
def test_bad_constructor_arguments(make, arguments, error, message):
    model, layer = arguments
    with pytest.raises(error, match=message):
        make(model, layer=layer)


# what is given to fit, the error, and words of its message
BAD_LOADERS = {
    "empty": (lambda x: [], ValueError, "data_loader holds no ID samples"),
    "empty batches": (lambda x: [x[:0]], ValueError, "data_loader holds no ID samples"),
    "no ID": (lambda x: [(x, -torch.ones(64))], ValueError, "holds no ID samples.*< 0"),
    "tensor": (lambda x: x, TypeError, "data_loader must yield batches, got a tensor"),
    "dicts": (lambda x: [{"x": x}], TypeError, r"must yield tensors, \(x, y\).*got dict"),
    "strings": (lambda x: ["x"], TypeError, "must yield tensors.*got str"),
    "arrays": (lambda x: [x.numpy()], TypeError, "must yield tensors.*got ndarray"),
    "numbers": (lambda x: [3.0], TypeError, "must yield tensors.*got float"),
    "lists": (lambda x: [[[1.0], [2.0]]], TypeError, r"got list of \['list', 'list'\]"),
    "NaN": (lambda x: [x, with_value(x, math.nan, 3, 9)], ValueError, "samples 3, 9"),
    "inf": (lambda x: [x, with_value(x, math.inf, 5)], ValueError, "samples 5"),
    "short labels": (lambda x: [(x, zeros(3))], ValueError, r"shape \(3,\).*\(64, 3, 10, 10\)"),
    "columns": (lambda x: [(x, zeros(64, 1))], ValueError, r"\(64, 1\).*\(64, 3, 10, 10\)"),
    "text labels": (lambda x: [(x, ["a"] * 64)], TypeError, "one number per sample"),
    "NaN labels": (lambda x: [(x, zeros(64) * math.nan)], ValueError, "NaN"),
    "vector": (lambda x: [x[0, 0, 0]], ValueError, r"\(10,\).*unsqueeze"),
    "raises at once": (lambda x: raising(OSError("no file")), OSError, "no file"),
    "raises later": (lambda x: raising(OSError("no file"), x, x), OSError, "no file"),
    "interrupted": (lambda x: raising(KeyboardInterrupt("C"), x), KeyboardInterrupt, "C"),
    "other channels": (lambda x: [x, zeros(8, 4, 10, 10)], RuntimeError, "elements not 3"),
    "no batch dimension": (lambda x: [x, x[0]], ValueError, "got 3D"),
    "None": (lambda x: [x, None], TypeError, "got NoneType"),
    "bytes": (lambda x: [(x * 100).byte()], TypeError, "does not run on torch.uint8"),
    "number": (lambda x: 3, TypeError, "not iterable"),
}


@pytest.mark.parametrize("case", BAD_LOADERS)
def test_bad_loaders(fitted, model, images, scores, case):
    loader, error, message = BAD_LOADERS[case]
    model.train()
    loader = loader(images)
    with untouched(model), pytest.raises(error, match=message):
        fitted.fit(loader)
    assert torch.equal(fitted(images), scores)  # the old state


def test_a_bad_loader_leaves_an_unfitted_detector_unfitted(make, model, images):
    detector = make(model)
    with pytest.raises(ValueError, match="samples 3"):
        detector.fit([images, with_value(images, math.nan, 3)])
    with pytest.raises(RequiresFittingException, match=f"{type(detector).__name__} is not fitted"):
        detector(images)


@pytest.mark.parametrize(
    "before", [nn.Identity(), Normalised(nn.Identity()), nn.Conv2d(3, 3, 1, bias=False)]
)
def test_samples_that_are_not_finite_are_told_in_the_first_batch_too(before, make, model, images):
    detector = make(nn.Sequential(before, model))
    with pytest.raises(ValueError, match=r"must be finite.* samples 1, 3\."):
        detector.fit([with_value(images, math.nan, 1, 3)])
    detector.fit([images])
    assert bool(detector(images).isfinite().all())


BAD_INPUTS = {
    "NaN": (lambda x: with_value(x, math.nan, 0, 63), ValueError, "samples 0, 63"),
    "inf": (lambda x: with_value(x, -math.inf, 7), ValueError, "samples 7"),
    "many NaN": (lambda x: x * math.nan, ValueError, r"18, 19 and 44 more\."),
    "array": (lambda x: x.numpy(), TypeError, "x must be a tensor of model inputs, got ndarray"),
    "batch": (lambda x: (x, 0), TypeError, "x must be a tensor of model inputs, got tuple"),
    "None": (lambda x: None, TypeError, "x must be a tensor of model inputs, got NoneType"),
    "vector": (lambda x: x[0, 0, 0], ValueError, r"\(10,\).*unsqueeze"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_inputs(fitted, model, images, scores, case):
    x, error, message = BAD_INPUTS[case]
    model.train()
    x = x(images)
    with untouched(model), pytest.raises(error, match=message):
        fitted.predict(x)
    assert torch.equal(fitted(images), scores)


@pytest.mark.parametrize("call", ["fit", "predict"])
def test_one_sample_without_batch_dimension(make, images, call):
    model = build(InPlaceStem)
    detector = make(model).fit([images])
    x = [images[0]] if call == "fit" else images[0]
    with untouched(model), pytest.raises(ValueError, match=r"\(3, 10, 10\).*unsqueeze"):
        getattr(detector, call)(x)


BAD_MAPS = {
    "channels": (
        lambda m: m[:, :7],
        ValueError,
        r"12 channels.*\(B, 12, \*S\).*\(64, 7, 10, 10\)",
    ),
    "more axes": (lambda m: m[:, :, None], ValueError, r"\(64, 12, 1, 10, 10\)"),
    "fewer axes": (lambda m: m.flatten(2), ValueError, r"\(64, 12, 100\)"),
    "no axes": (lambda m: m.mean(dim=(2, 3)), ValueError, r"\(B, C, \*S\).*\(64, 12\)"),
    "too many axes": (lambda m: m[..., None, None], ValueError, r"\(64, 12, 10, 10, 1, 1\)"),
    "no positions": (lambda m: m[..., :0], ValueError, r"positions.*\(64, 12, 10, 0\)"),
    "integers": (lambda m: m.long(), TypeError, r"torch.int64 of shape \(64, 12, 10, 10\)"),
    "complex": (lambda m: m + 0j, TypeError, "torch.complex64"),
    "array": (lambda m: m.numpy(), TypeError, "must be a tensor, got ndarray"),
    "NaN": (lambda m: with_value(m, math.nan, 2, 4), ValueError, "samples 2, 4"),
    "inf": (lambda m: with_value(m, math.inf, 11), ValueError, "samples 11"),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_bad_maps(fitted, model, images, scores, case):
    maps, error, message = BAD_MAPS[case]
    calls = [fitted.predict_features, fitted.partial_fit_features]
    if case not in ("channels", "more axes", "fewer axes"):  # another fit may have these
        calls.append(fitted.fit_features)
    for call in calls:
        with pytest.raises(error, match=message):
            call(maps(first_maps(model, images)))
    assert torch.equal(fitted(images), scores)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (zeros(63), ValueError, r"\(63,\).*\(64, 12, 10, 10\)"),
        (-torch.ones(64), ValueError, "maps holds no ID samples"),
        (["a"] * 64, TypeError, "one number per sample"),
    ],
)
def test_bad_labels_with_maps(fitted, model, images, scores, labels, error, message):
    with pytest.raises(error, match=message):
        fitted.fit_features(first_maps(model, images), labels)
    assert torch.equal(fitted(images), scores)


def test_maps_of_a_model_whose_stem_was_exchanged(fitted, model, images):
    model.stem.conv = nn.Conv2d(3, 5, 3)
    with untouched(model), pytest.raises(ValueError, match=r"12 channels.*\(64, 5, 8, 8\)"):
        fitted(images)


# -- manners ---------------------------------------------------------------------------------


def test_two_detectors_on_one_model(make, model, loader, images, scores):
    one, other = make(model).fit(loader), make(model, layer="body.2").fit(loader)
    before = other(images)
    assert torch.equal(one(images), scores)
    assert torch.equal(other(images), before)


def test_pickles_of_an_unfitted_detector(make, model, loader, images):
    detector = make(model, layer=model.stem.conv)
    copied = pickle.loads(pickle.dumps(detector))
    assert torch.equal(copied.fit(loader)(images), detector.fit(loader)(images))


def test_copies_without_a_model(make, model):
    maps = torch.randn(30, 12, 5, 5)
    detector = make(None, layer=model.stem.conv)
    copied = pickle.loads(pickle.dumps(detector)).fit_features(maps)
    scores = detector.fit_features(maps).predict_features(maps)
    for each in (copied, copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert torch.equal(each.predict_features(maps), scores)
    assert torch.equal(detector.to("cpu").predict_features(maps), scores)


def test_model_and_fit_move_along(make, model, loader):
    # no CUDA needed: the meta device stands for another one
    detector = make(model).fit(loader).to("meta")
    assert next(model.parameters()).is_meta
    assert detector.device == torch.device("meta")
    assert all(t.is_meta for t in [*detector._statistics.values(), *detector._state.values()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda(make, model, loader, images, scores):
    detector = make(model).fit(loader).to("cuda")
    assert next(model.parameters()).is_cuda
    torch.testing.assert_close(detector(images).cpu(), scores, rtol=1e-3, atol=1e-5)
    detector.fit(loader)
    with untouched(model):
        torch.testing.assert_close(detector(images.cuda()).cpu(), scores, rtol=1e-3, atol=1e-5)
    detector.to("cpu")
    torch.testing.assert_close(detector(images), scores, rtol=1e-3, atol=1e-5)
