"""Adversarial examples for benchmarks: crafted, rounded to 8 bit, filtered by success, cached.

An attack is a callable ``(model, x, y) -> x_adv`` on images in [0, 1]. A perturbation that does
not survive rounding to 8 bit cannot be stored in an image file, so rounding comes before success
is judged. Many minimal-norm attacks lose part of their successes there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...layer.manners import as_found
from .adapters import FoolboxAttack, TorchattacksAttack
from .cache import AttackedBatch, BatchCache, digest

__all__ = [
    "AdversarialExamples",
    "Attack",
    "AttackSize",
    "FoolboxAttack",
    "TorchattacksAttack",
    "craft",
    "round_to_8_bit",
]

#: ``(model, x, y) -> x_adv``, images in [0, 1] with their labels
Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class AttackSize:
    """
    How often an attack succeeds and how large its successful perturbations are.

    :param attacked: number of images that the model classifies correctly before the attack
    :param succeeded: number of them that it misclassifies after attack and rounding
    :param linf: mean over the successes of the largest absolute change, in units of 1/255
    :param rms: mean over the successes of the root mean square change, in units of 1/255
    """

    attacked: int
    succeeded: int
    linf: float
    rms: float

    @property
    def success_rate(self) -> float:
        """``succeeded / attacked``, NaN if nothing was attacked."""
        return self.succeeded / self.attacked if self.attacked else float("nan")


@dataclass(frozen=True)
class AdversarialExamples:
    """
    The successful examples of one attack.

    :param x: images (N, ...) in [0, 1], multiples of 1/255, on the CPU
    :param y: true labels (N,)
    :param index: (N,) positions of the clean images in the data that was attacked
    :param size: success rate and perturbation size
    """

    x: Tensor
    y: Tensor
    index: Tensor
    size: AttackSize


def round_to_8_bit(x: Tensor) -> Tensor:
    """
    :param x: images in [0, 1]
    :return: the nearest images that 8 bit can store, :math:`\\mathrm{round}(255 x) / 255`
    """
    return (x.clamp(0, 1) * 255).round() / 255


def craft(
    model: nn.Module,
    attack: Attack,
    x: Tensor,
    y: Tensor,
    *,
    name: str | None = None,
    batch_size: int = 100,
    cache: str | Path | None = None,
    key: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> AdversarialExamples:
    """
    Attacks images and keeps what succeeds after rounding to 8 bit: the clean image is classified
    correctly and the rounded one is not. The model runs in evaluation mode; its mode, gradients
    and the random state are afterwards as they were.

    With ``cache``, each batch is stored as soon as it is done. An interrupted run resumes after
    the last complete batch and a second run calls neither model nor attack. What is stored
    belongs to the model's weights, the data, the attack's settings, ``batch_size`` and ``seed``.

    :param model: classifier of images in [0, 1]
    :param attack: callable ``(model, x, y) -> x_adv``
    :param x: images (N, ...) in [0, 1]
    :param y: labels (N,)
    :param name: name in the progress bar and of the cache folder, by default the attack's class
    :param batch_size: images attacked together
    :param cache: folder for finished batches, None to store nothing
    :param key: text that stands for the attack and its settings, by default its ``repr``
    :param seed: seeds torch and NumPy before each batch
    :param progress: show a progress bar
    :return: the successful examples and the size of the attack
    :raises ValueError: if x and y do not fit together, x leaves [0, 1], or the attack's ``repr``
        does not tell its settings and no ``key`` is given
    """
    _check(x, y, batch_size)
    name = name or str(getattr(attack, "__name__", type(attack).__name__))
    store = None
    if cache is not None:
        settings = f"{name}\n{key or _settings(attack)} batch_size={batch_size} seed={seed}"
        store = BatchCache(Path(cache) / f"{name}-{digest(model, x, y, settings)}")
    batches = []
    starts = range(0, len(y), batch_size)
    for i, start in enumerate(tqdm(starts, desc=name, disable=not progress)):
        part = slice(start, start + batch_size)
        batch = store.read(i, x[part].shape) if store else None
        if batch is None:
            batch = _attack_batch(model, attack, x[part], y[part], seed + i)
            if store:
                store.write(i, batch)
        batches.append(batch)
    attacked, correct, success = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return _successes(attacked, x.detach().cpu(), y.detach().cpu(), correct, success)


def _check(x: Tensor, y: Tensor, batch_size: int) -> None:
    if len(x) != len(y) or y.ndim != 1 or len(y) == 0:
        raise ValueError(
            "x must be images (N, ...) and y labels (N,) with N > 0, "
            f"got shapes {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not (x.is_floating_point() and x.min() >= 0 and x.max() <= 1):
        raise ValueError(
            f"x must be floating point in [0, 1], got {x.dtype} from {x.min():g} to {x.max():g}"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def _settings(attack: Attack) -> str:
    text = repr(attack)
    if " at 0x" in text:  # a function or an object without __repr__
        raise ValueError(
            f"the attack's repr {text!r} does not tell its settings, so nothing can be stored "
            "under it: pass key= with a text that does"
        )
    return text


def _attack_batch(
    model: nn.Module, attack: Attack, x: Tensor, y: Tensor, seed: int
) -> AttackedBatch:
    device = next((p.device for p in model.parameters()), x.device)
    x, y = x.to(device), y.to(device)
    with _undisturbed(model, seed):
        correct = _predict(model, x) == y
        attacked = x.clone()
        if correct.any():
            attacked[correct] = _call(attack, model, x[correct], y[correct])
        attacked = round_to_8_bit(attacked)
        success = correct & (_predict(model, attacked) != y)
    return (attacked * 255).round().to(torch.uint8).cpu(), correct.cpu(), success.cpu()


def _call(attack: Attack, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    attacked = attack(model, x, y).detach()
    if attacked.shape != x.shape or not attacked.isfinite().all():
        raise ValueError(
            f"attack {attack!r} must return finite images of shape {tuple(x.shape)}, "
            f"got shape {tuple(attacked.shape)}, finite: {bool(attacked.isfinite().all())}"
        )
    return attacked


@torch.no_grad()
def _predict(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).argmax(dim=1)  # type: ignore[no-any-return]


@contextmanager
def _undisturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Gradients for the input alone and seeded randomness, all undone at the end."""
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    numpy_state = np.random.get_state()
    try:
        for p, _, _ in parameters:
            p.requires_grad_(False)
            p.grad = None
        with as_found(model), torch.enable_grad():
            torch.manual_seed(seed)
            np.random.seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)
        for p, requires_grad, grad in parameters:
            p.requires_grad_(requires_grad)
            p.grad = grad


def _successes(
    attacked: Tensor, x: Tensor, y: Tensor, correct: Tensor, success: Tensor
) -> AdversarialExamples:
    adversarial = attacked[success].float() / 255
    change = (adversarial - x[success].float()).flatten(1) * 255
    size = AttackSize(
        attacked=int(correct.sum()),
        succeeded=int(success.sum()),
        linf=float(change.abs().amax(1).mean()) if len(change) else float("nan"),
        rms=float(change.square().mean(1).sqrt().mean()) if len(change) else float("nan"),
    )
    return AdversarialExamples(adversarial, y[success], success.nonzero().squeeze(1), size)
