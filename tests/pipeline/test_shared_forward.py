"""One pass gives every detector what its own predict gives, and leaves the model as found."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from manners import untouched
from networks import Faulty, InPlaceStem, SmallNet, build
from pytorch_ood import detector as ood
from pytorch_ood.api import RequiresFittingException
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from wrapped import Packed

from pytorch_ood_viyog import Viyog, ViyogResidue, ViyogTV
from pytorch_ood_viyog.pipeline.shared_forward import SharedForward

LOGITS = {
    "msp": ood.MaxSoftmax,
    "energy": ood.EnergyBased,
    "entropy": ood.Entropy,
    "gen": ood.GEN,
    "maxlogit": ood.MaxLogit,
    "weighted": lambda m: ood.WeightedEBO(m, torch.linspace(0.5, 1.5, 5)),
    "kl": ood.KLMatching,
    "openmax": lambda m: ood.OpenMax(m, tailsize=3, alpha=2),
    "temperature": ood.TemperatureScaling,
}
FEATURES = {
    "maha": lambda e, h: ood.Mahalanobis(e),
    "rmd": lambda e, h: ood.RMD(e),
    "knn": lambda e, h: ood.KNN(e, k=3),
    "vim": lambda e, h: ood.ViM(e, d=2, w=h.weight, b=h.bias),
    "nnguide": lambda e, h: ood.NNGuide(e, h, k=3),
    "fdbd": ood.fDBD,
    "nci": ood.NCI,
    "pnml": ood.PNML,
    "dice": lambda e, h: ood.DICE(e, h.weight, h.bias, p=0.5),
    "lts": lambda e, h: ood.LTS(e, h, p=0.5),
    "gmm": lambda e, h: ood.GMM(e, reg=0.1),
}
FIRST_LAYER = {"viyog": Viyog, "tv": ViyogTV}


class Encoder(nn.Module):
    """SmallNet without its head, written out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.body(self.model.stem(x)).mean(dim=(2, 3))


def energy_and_tv(model):
    return SharedForward(model, {"energy": ood.EnergyBased(None), "tv": ViyogTV(None)})


def everything(model, encoder, head):
    made = {name: make(model) for name, make in (LOGITS | FIRST_LAYER).items()}
    return made | {name: make(encoder, head) for name, make in FEATURES.items()}


@pytest.fixture(scope="module")
def fitted():
    """All detectors in one pipeline, and each by itself, fitted on the same batches."""
    torch.manual_seed(0)
    model = build(SmallNet)
    x, y = torch.rand(60, 3, 10, 10), torch.arange(60) % 5
    loader = DataLoader(TensorDataset(x, y), batch_size=20)
    pipeline = SharedForward(model, everything(None, None, model.head)).fit(loader)
    alone = everything(model, Encoder(model), model.head)
    for detector in alone.values():
        detector.fit(loader)
    return pipeline, alone, loader


def test_scores_equal_each_detectors_own(fitted):
    pipeline, alone, _ = fitted
    x = torch.rand(7, 3, 10, 10)
    found = pipeline.predict(x)
    assert set(found) == {*LOGITS, *FEATURES, *FIRST_LAYER}
    for name, scores in found.items():
        expected = alone[name].predict(x).detach()
        torch.testing.assert_close(scores, expected, rtol=1e-6, atol=0, msg=name)


def test_detectors_may_hold_the_model(fitted):
    pipeline, _, loader = fitted
    model, x = pipeline.model, torch.ones(3, 3, 10, 10)
    shared = SharedForward(model, everything(model, Encoder(model), model.head)).fit(loader)
    scores = shared.predict(x, logits=True)
    assert scores.pop("logits").shape == (3, 5)
    for name, expected in pipeline.predict(x).items():
        torch.testing.assert_close(scores[name], expected)


def test_score_gives_a_table_of_all_batches(fitted):
    pipeline, _, loader = fitted
    table = pipeline.score(loader, progress=False)
    x, y = loader.dataset.tensors
    assert set(table) == {*pipeline.detectors, "labels", "logits"}
    assert torch.equal(table["labels"], y)
    with torch.no_grad():
        torch.testing.assert_close(table["logits"], pipeline.model(x))
    torch.testing.assert_close(table["tv"], pipeline.predict(x)["tv"])
    assert "labels" not in pipeline.score([x])


# -- one pass --------------------------------------------------------------------------------


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_the_model_runs_once_a_batch(model, loader):
    runs, stem = count_calls(model), count_calls(model.stem.conv)
    pipeline = SharedForward(model, everything(None, None, model.head))
    pipeline.fit(loader)
    assert (len(runs), len(stem)) == (5, 5)  # once more, on few samples, to look at the layer
    pipeline.predict(torch.rand(5, 3, 10, 10))
    assert (len(runs), len(stem)) == (6, 6)
    energy_and_tv(model).fit(loader)  # needs the first layer only
    assert len(runs) == 7


def test_maps_are_not_kept(model):
    pipeline = SharedForward(model, {"energy": ood.EnergyBased(None), "viyog": Viyog(None)})
    x = torch.rand(4, 3, 10, 10)
    pipeline.fit([x])
    maps = []
    model.stem.conv.register_forward_hook(lambda m, i, output: maps.append(weakref.ref(output)))
    pipeline.fit([x]).predict(x)
    gc.collect()
    assert maps
    assert all(ref() is None for ref in maps)


def test_raw_maps_count_where_an_activation_works_in_place():
    model = build(InPlaceStem)
    x = torch.rand(6, 3, 8, 8) - 0.5
    detectors = {"energy": ood.EnergyBased(None), "viyog": Viyog(None)}
    pipeline = SharedForward(model, detectors).fit([x])
    expected = -(model.conv(x).abs().amax(dim=(1, 2, 3)) - pipeline["viyog"].baseline)
    pipeline["viyog"].bounded = False
    torch.testing.assert_close(pipeline.predict(x)["viyog"].float(), expected)


# -- a guest of the model --------------------------------------------------------------------


def test_the_model_is_left_as_found(loader):
    model = build(SmallNet)
    model.train()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    detectors = everything(None, None, model.head) | {"odin": ood.ODIN(model)}
    pipeline = SharedForward(model, detectors, separate=["odin"])
    x = torch.rand(3, 3, 10, 10)
    with untouched(model):
        pipeline.fit(loader, progress=False)
        pipeline.predict(x)
        pipeline.score(loader, progress=False)
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))


def test_the_model_is_left_as_found_after_its_own_error():
    model = build(Faulty)
    head = nn.Sequential(model, nn.Flatten(), nn.LazyLinear(2))
    x = torch.rand(2, 3, 6, 6)
    head(x)
    pipeline = energy_and_tv(head).fit([x])
    model.broken = True
    with untouched(head), pytest.raises(ArithmeticError, match="raised by the user's model"):
        pipeline.predict(x)


def test_errors_of_a_detector_inside_the_pass_come_through(model, loader):
    pipeline = energy_and_tv(model).fit(loader)
    x = torch.rand(3, 3, 10, 10)
    x[1, 0, 2, 2] = torch.nan
    with untouched(model), pytest.raises(ValueError, match="the samples 1"):
        pipeline.predict(x)


def test_threads_do_not_disturb_each_other(model, loader):
    detectors = {"tv": ViyogTV(None), "maha": ood.Mahalanobis(None)}
    pipeline = SharedForward(model, detectors).fit(loader)
    inputs = [torch.rand(4, 3, 10, 10) for _ in range(4)]
    expected = [pipeline.predict(x) for x in inputs]
    plain = model(inputs[0])

    def work(number):
        found = [pipeline.predict(inputs[number]) for _ in range(30)]
        return all(torch.equal(f[n], expected[number][n]) for f in found for n in detectors)

    def user():
        return all(torch.equal(model(inputs[0]), plain) for _ in range(60))

    with untouched(model), ThreadPoolExecutor() as pool:
        jobs = [pool.submit(user), *(pool.submit(work, number) for number in range(4))]
        assert all(job.result() for job in jobs)


# -- models ----------------------------------------------------------------------------------


def test_models_that_return_more_than_logits():
    model, x = Packed(build(SmallNet), lambda z: (z, None)), torch.rand(3, 3, 10, 10)
    detectors = {"energy": ood.EnergyBased(None)}
    pipeline = SharedForward(model, detectors, logits=lambda output: output[0])
    expected = -model.model(x).logsumexp(dim=1)
    torch.testing.assert_close(pipeline.predict(x)["energy"], expected.detach())
    with pytest.raises(TypeError, match=r"got tuple.*logits="):
        SharedForward(model, detectors).predict(x)


def test_a_head_can_be_named_and_need_not_be_linear():
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 4, 1), nn.Flatten()
    )
    x, y = torch.rand(40, 3, 5, 5), torch.arange(40) % 4
    maha = SharedForward(model, {"maha": ood.Mahalanobis(None)}, head="3").fit([(x, y)])
    own = ood.Mahalanobis(nn.Sequential(*model[:3], nn.Flatten())).fit([(x, y)])
    torch.testing.assert_close(maha.predict(x)["maha"], own.predict(x))
    found = SharedForward(model, {"maha": ood.Mahalanobis(None)}).fit(
        [(x, y)]
    )  # it sees one position
    assert torch.equal(found.predict(x)["maha"], maha.predict(x)["maha"])
    with pytest.raises(RuntimeError, match=r"Linear layer never runs.*head="):
        SharedForward(model[:3], {"maha": ood.Mahalanobis(None)}).fit([(x, y)])
    with pytest.raises(ValueError, match="does not contain a layer named 'fc'"):
        SharedForward(model, {"maha": ood.Mahalanobis(None)}, head="fc")


def test_linear_layers_on_tokens_are_no_head():
    model = nn.Sequential(nn.Linear(4, 3), nn.Flatten(), nn.Softmax(dim=1))
    with pytest.raises(RuntimeError, match=r"never runs.*only on tokens.*head="):
        SharedForward(model, {"maha": ood.Mahalanobis(None)}).unfitted(torch.rand(2, 7, 4))


# -- what is fed, what is refused ------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (ood.ODIN, "needs gradients"),
        (ood.GradNorm, "needs gradients"),
        (lambda m: ood.MultiMahalanobis([m.stem, m.body]), "several layers"),
        (ood.MCD, "raw model input"),
    ],
)
def test_what_cannot_share_the_pass_is_refused_with_the_reason(model, make, reason):
    with pytest.raises(TypeError, match=rf"'other'.*{reason}.*separate=\['other'\]"):
        SharedForward(model, {"other": make(model)})


def test_separate_detectors_run_by_themselves(model, loader):
    detectors = {"odin": ood.ODIN(model), "norm": ood.GradNorm(model), "tv": ViyogTV(None)}
    pipeline = SharedForward(model, detectors, separate=["odin", "norm"]).fit(loader)
    x = torch.rand(3, 3, 10, 10)
    with torch.no_grad():
        scores = pipeline.predict(x)
    torch.testing.assert_close(scores["odin"], ood.ODIN(model).predict(x).detach())
    torch.testing.assert_close(scores["norm"], ood.GradNorm(model).predict(x).detach())
    assert not any(values.requires_grad for values in scores.values())


def test_feature_map_detectors_need_a_named_layer(model, loader):
    tail = lambda maps: model.head(maps.mean(dim=(2, 3)))  # noqa: E731
    backbone = nn.Sequential(model.stem, model.body)
    x = torch.rand(3, 3, 10, 10)
    detectors = {"ash": ood.ASH(None, tail), "react": ood.ReAct(None, tail)}
    pipeline = SharedForward(model, detectors, feature_maps="body").fit(loader)
    scores = pipeline.predict(x)
    torch.testing.assert_close(scores["ash"], ood.ASH(backbone, tail).predict(x).detach())
    own = ood.ReAct(backbone, tail).fit(loader)
    torch.testing.assert_close(scores["react"], own.predict(x).detach())
    with pytest.raises(TypeError, match=r"feature_maps='\.\.\.'"):
        SharedForward(model, {"ash": ood.ASH(None, tail)})


def test_a_detector_of_another_model_or_layer_is_refused(model, loader):
    other = build(SmallNet, seed=1)
    with pytest.raises(ValueError, match="'tv' has another model"):
        SharedForward(model, {"tv": ViyogTV(other)})
    with pytest.raises(ValueError, match=r"'energy'.*own model, which gives other logits"):
        SharedForward(model, {"energy": ood.EnergyBased(other)}).predict(torch.rand(2, 3, 10, 10))
    foreign = SharedForward(model, {"knn": ood.KNN(lambda x: x.flatten(1), k=2)})
    with pytest.raises(ValueError, match=r"'knn'.*own encoder, which gives other features"):
        foreign.fit(loader)
    with pytest.raises(ValueError, match="must read one layer"):
        SharedForward(model, {"tv": ViyogTV(model, layer="body.2")}, layer="stem.conv")


def test_a_named_first_layer_is_read(model, loader):
    x = torch.rand(3, 3, 10, 10)
    own = ViyogTV(model, layer="body.2").fit(loader).predict(x)
    named = SharedForward(model, {"tv": ViyogTV(None)}, layer="body.2").fit(loader)
    taken = SharedForward(model, {"tv": ViyogTV(model, layer="body.2")}).fit(loader)
    assert torch.equal(named.predict(x)["tv"], own)
    assert named["tv"].layer is model.body[2]
    assert torch.equal(taken.predict(x)["tv"], own)


@pytest.mark.parametrize(
    ("detectors", "options", "error", "message"),
    [
        ({}, {}, ValueError, "must map names to detectors"),
        ({"labels": ood.EnergyBased(None)}, {}, ValueError, "'labels'"),
        ({1: ood.EnergyBased(None)}, {}, ValueError, "got 1"),
        ({"energy": torch.nn.Identity()}, {}, TypeError, "pytorch-ood detector"),
        ({"energy": ood.EnergyBased(None)}, {"separate": ["odin"]}, ValueError, "no detectors"),
    ],
)
def test_arguments_are_checked(model, detectors, options, error, message):
    with pytest.raises(error, match=message):
        SharedForward(model, detectors, **options)
    pipeline = SharedForward(model, {"energy": ood.EnergyBased(None)})
    assert repr(pipeline) == "SharedForward(model=SmallNet, energy=EnergyBased)"
    with pytest.raises(KeyError, match="No detector named 'knn'"):
        pipeline["knn"]
    with pytest.raises(ValueError, match="empty"):
        pipeline.score([])


# -- fitting ---------------------------------------------------------------------------------


def test_ood_samples_do_not_take_part(model, images):
    y = torch.arange(64) % 5
    mixed_x = torch.cat([images, torch.full((8, 3, 10, 10), 9.0)])
    mixed_y = torch.cat([y, torch.full((8,), -1)])
    order = torch.randperm(72, generator=torch.Generator().manual_seed(0))
    position = order[order < 64]
    mixed = SharedForward(model, everything(None, None, model.head))
    mixed.fit(DataLoader(TensorDataset(mixed_x[order], mixed_y[order]), batch_size=9))
    clean = SharedForward(model, everything(None, None, model.head))
    clean.fit([(images[position], y[position])])
    x = torch.rand(3, 3, 10, 10)
    expected = clean.predict(x)
    for name, scores in mixed.predict(x).items():
        torch.testing.assert_close(scores, expected[name], rtol=1e-4, atol=1e-6)


def test_unfitted_detectors_are_named(model, loader):
    detectors = {"energy": ood.EnergyBased(None), "kl": ood.KLMatching(None)}
    detectors |= {"viyog": Viyog(None), "tv": ViyogTV(None), "maha": ood.Mahalanobis(None)}
    pipeline, x = SharedForward(model, detectors), torch.rand(3, 3, 10, 10)
    need = {name for name, detector in pipeline.detectors.items() if detector.requires_fit}
    assert set(pipeline.unfitted(x)) == need
    with pytest.raises(RequiresFittingException, match="'viyog'"):
        pipeline.predict(x)
    pipeline.fit(loader, names=["viyog", "tv", "maha"])
    assert set(pipeline.unfitted(x)) == need - {"viyog", "tv", "maha"}
    with pytest.raises(RequiresFittingException, match="'kl'"):
        pipeline.predict(x)
    pipeline.fit(loader, names=need)
    assert pipeline.unfitted(x) == []


def test_a_failed_fit_leaves_every_detector_as_it_was(model, loader, images):
    detectors = {"maha": ood.Mahalanobis(None), "tv": ViyogTV(None), "knn": ood.KNN(None, k=20)}
    pipeline = SharedForward(model, detectors).fit(loader)
    before = pipeline.predict(images)
    y = torch.arange(10) % 5
    with pytest.raises(RuntimeError, match=r"'knn' \(KNN\) could not be fitted.*k=20"):
        pipeline.fit([(images[:10] + 3, y)])
    nan = images[:10].clone()
    nan[3] = torch.nan
    with pytest.raises(ValueError, match="samples 3"):
        pipeline.fit([(images[:10] + 1, y), (nan, y)])
    after = pipeline.predict(images)
    assert all(torch.equal(before[name], after[name]) for name in before)


class Gains(ood.MaxLogit):
    """Holds nothing before its fit."""

    requires_fit = True

    def fit_logits(self, logits, labels):
        self.known = logits.mean(dim=0)
        return self


class Stops(Gains):
    """Is interrupted in its fit."""

    stops = True

    def fit_logits(self, logits, labels):
        super().fit_logits(logits, labels)
        if self.stops:
            raise KeyboardInterrupt
        return self


def held(detector):
    return {name: type(value) for name, value in vars(detector).items()}


def test_an_interrupted_fit_leaves_all_as_it_was(model, loader, images):
    detectors = everything(None, None, model.head) | {"gains": Gains(None), "stops": Stops(None)}
    pipeline = SharedForward(model, detectors)
    before = {name: held(detector) for name, detector in detectors.items()}
    with untouched(model), pytest.raises(KeyboardInterrupt):
        pipeline.fit(loader)
    assert {name: held(detector) for name, detector in detectors.items()} == before
    assert "viyog" in pipeline.unfitted(images)
    detectors["stops"].stops = False
    scores = pipeline.fit(loader).predict(images)
    detectors["stops"].stops = True
    with pytest.raises(KeyboardInterrupt):
        pipeline.fit([(x * 2 - 0.3, y) for x, y in loader])
    after = pipeline.predict(images)
    assert [name for name in scores if not torch.equal(scores[name], after[name])] == []


class StopsAlone(Viyog):
    stops = False

    def fit(self, *loader, **options):
        if self.stops:
            raise KeyboardInterrupt
        return super().fit(*loader, **options)


def test_separate_detectors_are_left_as_they_were_too(model, loader, images):
    detectors = {"tv": ViyogTV(None), "one": ViyogResidue(model), "stops": StopsAlone(model)}
    pipeline = SharedForward(model, detectors, separate=["one", "stops"]).fit(loader)
    before = pipeline.predict(images)
    detectors["stops"].stops = True
    with pytest.raises(KeyboardInterrupt):
        pipeline.fit([(x.cumsum(dim=3), y) for x, y in loader])
    after = pipeline.predict(images)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize(
    ("batches", "error", "message"),
    [
        ([], ValueError, "no ID samples"),
        ([(torch.rand(4, 3, 10, 10), -torch.ones(4))], ValueError, "no ID samples"),
        ([torch.rand(4, 3, 10, 10)], ValueError, "no labels"),
        (torch.rand(4, 3, 10, 10), TypeError, "got a tensor"),
        ([{"x": 1}], TypeError, "got dict"),
    ],
)
def test_loaders_are_checked(model, batches, error, message):
    pipeline = SharedForward(model, {"knn": ood.KNN(None, k=2), "tv": ViyogTV(None)})
    with pytest.raises(error, match=message):
        pipeline.fit(batches)
    assert set(pipeline.unfitted(torch.rand(2, 3, 10, 10))) == {"knn", "tv"}


def test_she_with_labels_that_the_model_predicts(model, loader):
    x = torch.cat([x for x, _ in loader])
    answers, y = torch.unique(model(x).argmax(dim=1), return_inverse=True)
    head = nn.Linear(4, len(answers))
    head.weight.data, head.bias.data = model.head.weight[answers], model.head.bias[answers]
    shared = SharedForward(model, {"she": ood.SHE(None, head)}).fit([(x, y)])
    own = ood.SHE(Encoder(model), head).fit([(x, y)])
    torch.testing.assert_close(shared.predict(x)["she"], own.predict(x).detach())
