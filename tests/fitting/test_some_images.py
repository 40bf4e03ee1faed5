"""A part of the data, chosen before anything is read."""

import warnings

import pytest
import torch
from digits import images as digits
from digits import trained
from torch import nn
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
)

from pytorch_ood_viyog import SecondLook, SharedForward, Triage, ViyogResidue, ViyogTV
from pytorch_ood_viyog.fitting.some_images import some_images


class Files(TensorDataset):
    """Counts what is read."""

    def __init__(self, count: int):
        generator = torch.Generator().manual_seed(0)
        super().__init__(
            torch.rand(count, 3, 12, 12, generator=generator), torch.arange(count) % 4
        )
        self.read: list[int] = []

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)


class Counted(TensorDataset):
    """Images without labels; says which were read."""

    def __init__(self, images):
        super().__init__(images)
        self.read: list[int] = []

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)[0]


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()


def numbers(loader):
    return [n for _, y in loader for n in y.tolist()]


def test_nothing_else_is_read():
    files = Files(200)
    some = some_images(DataLoader(files, batch_size=16, shuffle=True), 30, 0)
    assert files.read == []
    assert sum(len(x) for x, _ in some) == len(set(files.read)) == 30
    assert some.batch_size == 16


def test_neither_shuffling_batches_nor_random_state_matter():
    torch.manual_seed(1)
    one, other, third = Files(200), Files(200), Files(200)
    list(some_images(DataLoader(one, batch_size=16, shuffle=True), 30, 0))
    torch.manual_seed(2)
    list(some_images(DataLoader(other, batch_size=7), 30, 0))
    list(some_images(third, 30, 0))
    assert one.read == other.read == third.read == sorted(one.read)
    another = Files(200)
    list(some_images(another, 30, 1))
    assert another.read != one.read


def test_the_random_state_stays():
    before = torch.get_rng_state()
    places = SubsetRandomSampler(range(50))
    some_images(DataLoader(Files(200), sampler=places), 30, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sampler_is_followed():
    files = Files(200)
    places = range(10, 60)
    list(some_images(DataLoader(files, sampler=SubsetRandomSampler(places)), 30, 0))
    assert len(files.read) == 30
    assert set(files.read) <= set(places)
    whole = DataLoader(files, sampler=SubsetRandomSampler(range(20)))
    assert some_images(whole, 30, 0) is whole


def test_all_are_read_where_nothing_is_asked():
    batches = [torch.rand(2, 3, 8, 8)]
    assert some_images(batches, None, 0) is batches


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.rand(3, 8, 8)


@pytest.mark.parametrize(
    "data",
    [
        [torch.rand(2, 3, 8, 8)],
        Stream(),
        DataLoader(Stream()),
        DataLoader(Files(9), batch_size=None),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(data):
    with pytest.raises(TypeError, match=r"max_images needs a DataLoader.*Leave it out"):
        some_images(data, 3, 0)


def test_no_images_are_too_few():
    with pytest.raises(ValueError, match="max_images"):
        some_images(Files(9), 0, 0)


@pytest.mark.parametrize("build", [ViyogTV, ViyogResidue, SecondLook])
def test_detectors_read_the_chosen_alone(build):
    files, net = Files(300), model()
    loader = DataLoader(files, batch_size=50, shuffle=True)
    options = {"purifier": "maps"} if build is SecondLook else {}
    detector = build(net, **options).fit(loader, progress=False, max_images=80)
    assert len(set(files.read)) == 80
    x = files.tensors[0][:5]
    expected = build(net, **options).fit([files.tensors[0][sorted(set(files.read))]])
    torch.testing.assert_close(detector(x), expected(x))


def test_a_pipeline_reads_the_chosen_alone():
    files, net = Files(300), model()
    pipeline = SharedForward(net, {"tv": ViyogTV(None)})
    pipeline.fit(DataLoader(files, batch_size=50), progress=False, max_images=80)
    assert len(files.read) == 80


def test_a_triage_reads_the_chosen_of_both():
    net, (train, _), (known, _) = trained(), *digits()
    first, second = Counted(train[:400]), Counted(known)
    triage = Triage(net, id_fpr=0.1, noisy_fpr=0.1, simulate_on=30, look="never")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few images
        triage.fit(DataLoader(first, 50), DataLoader(second, 50), progress=False, max_images=120)
    assert len(set(first.read)) == len(set(second.read)) == 120
