"""Hostile state files: refused with a clear error, nothing executed, the detector as before."""

import copy
import io
import pickle
from zipfile import BadZipFile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import SmallNet, build

#: what reading a broken file raises
UNREADABLE = (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, BadZipFile)


@pytest.fixture
def saved(fitted):
    stream = io.BytesIO()
    torch.save(fitted.state_dict(), stream)
    return stream.getvalue()


@pytest.fixture
def target(make, images):
    """Another fitted detector; call it to see that it scores as before."""
    detector = make(build(SmallNet, seed=0)).fit([images[:40] * 0.5])
    before = detector(images)
    detector.unchanged = lambda: torch.equal(detector(images), before)
    return detector


def read(data: bytes):
    return torch.load(io.BytesIO(data), weights_only=True)


# -- files -----------------------------------------------------------------------------------


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("where", ["alone", "entry", "setting", "tensor"])
def test_code_in_a_file_is_not_run(fitted, target, tmp_path, where):
    marker, path = tmp_path / "executed", tmp_path / "state.pt"
    state = fitted.state_dict()
    bomb = Bomb(marker)
    if where == "entry":
        state["extra"] = bomb
    elif where == "setting":
        state["settings"] = {**state["settings"], "extra": bomb}
    elif where == "tensor":
        state["tensors"] = dict.fromkeys(state["tensors"], bomb)
    torch.save(bomb if where == "alone" else state, path)
    with pytest.raises(pickle.UnpicklingError, match=r"(?i)weights.only"):
        torch.load(path, weights_only=True)
    assert not marker.exists()
    assert target.unchanged()


def test_truncated_files_are_refused(saved, target):
    for size in [0, 1, 10, len(saved) // 4, len(saved) // 2, len(saved) - 100, len(saved) - 1]:
        with pytest.raises(UNREADABLE):
            read(saved[:size])
    assert target.unchanged()


def test_flipped_bits_are_refused_or_harmless(saved, target, images):
    before = copy.copy(vars(target))

    @settings(max_examples=80, deadline=None, derandomize=True, database=None)
    @given(flips=st.lists(st.integers(0, 8 * len(saved) - 1), min_size=1, max_size=3))
    def check(flips):
        broken = bytearray(saved)
        for bit in flips:
            broken[bit // 8] ^= 1 << bit % 8
        try:
            target.load_state_dict(read(bytes(broken)))
        except (*UNREADABLE, TypeError, KeyError, AttributeError, IndexError):
            assert target.unchanged()
            return
        assert usable(target, images)
        vars(target).clear()
        vars(target).update(before)

    check()


# -- contents --------------------------------------------------------------------------------


def usable(detector, images):
    """Scores are finite, or the detector says that the images do not suit it."""
    try:
        return bool(detector(images).isfinite().all())
    except ValueError as error:
        return len(str(error)) > 20


JUNK = [
    None,
    -1,
    0,
    2**70,
    1e300,
    float("nan"),
    float("inf"),
    True,
    "text",
    b"bytes",
    [],
    {},
    [1, 2],
    object(),
    torch.tensor(float("nan")),
    torch.zeros(0),
    torch.zeros(3, 3),
    torch.tensor(True),
    torch.tensor(1j),
    torch.empty(12, device="meta"),
    torch.zeros(12).to_sparse(),
]


def places(state):
    """Paths to all entries of a state, without the state itself."""
    for key, value in state.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, inner) for inner in value)


def changed(state, path, value):
    """A copy of the state with one entry replaced."""
    result = {k: dict(v) if isinstance(v, dict) else v for k, v in state.items()}
    holder = result
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return result


def refused_or_usable(target, state, images, wanted):
    """Loads the state into a copy of the target, which scores ``wanted``; checks what becomes."""
    victim = copy.copy(target)
    try:
        victim.load_state_dict(state)
    except (ValueError, TypeError) as error:
        return len(str(error)) > 20 and torch.equal(victim(images), wanted)
    return usable(victim, images)


def test_wrong_entries_are_refused(fitted, target, images):
    del target.unchanged  # no copy of it
    state, images = fitted.state_dict(), images[:2]
    wanted = target(images)
    for path in places(state):
        for junk in JUNK:
            assert refused_or_usable(target, changed(state, path, junk), images, wanted), (
                path,
                junk,
            )


def test_missing_and_additional_entries_are_refused(fitted, target):
    state = fitted.state_dict()
    for path in places(state):
        smaller = changed(state, path, None)
        holder = smaller if len(path) == 1 else smaller[path[0]]
        del holder[path[-1]]
        with pytest.raises(ValueError, match="must"):
            target.load_state_dict(smaller)
    for larger in (
        changed(state, ("extra",), 1),
        changed(state, ("tensors", "extra"), torch.ones(1)),
        changed(state, ("settings", "extra"), 1),
    ):
        with pytest.raises(ValueError, match="extra"):
            target.load_state_dict(larger)
    assert target.unchanged()


def test_huge_shapes_are_refused_at_once(fitted, target):
    """A few bytes in a file can claim any shape; nothing of that size is ever made."""
    state = fitted.state_dict()
    for name, tensor in state["tensors"].items():
        same_rank = (2 ** (40 // max(1, tensor.dim())),) * max(1, tensor.dim())
        for shape in (same_rank, (2**40,), (2**20, 2**20), (2**20, *tensor.shape, 2**20)):
            huge = torch.zeros(1, dtype=tensor.dtype).expand(shape)
            stream = io.BytesIO()
            torch.save(changed(state, ("tensors", name), huge), stream)
            assert len(stream.getvalue()) < 2**25
            with pytest.raises(ValueError, match="shape"):
                target.load_state_dict(read(stream.getvalue()))
    assert target.unchanged()


def test_values_that_no_fit_gives(fitted, target, images):
    """NaN, counts of zero, negative magnitudes, indices beyond the channels."""
    del target.unchanged
    state, images = fitted.state_dict(), images[:2]
    wanted = target(images)
    for name, tensor in state["tensors"].items():
        for value in (0, -1, 10**6):
            strange = changed(state, ("tensors", name), torch.full_like(tensor, value))
            assert refused_or_usable(target, strange, images, wanted), (name, value)
        if tensor.is_floating_point() and tensor.numel():
            broken = tensor.clone(memory_format=torch.contiguous_format)
            broken.view(-1)[-1] = torch.nan
            with pytest.raises(ValueError, match="finite"):
                target.load_state_dict(changed(state, ("tensors", name), broken))
    assert torch.equal(target(images), wanted)
