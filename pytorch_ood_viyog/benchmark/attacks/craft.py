"""Adversarial examples for benchmarks: crafted, rounded to 8 bit, filtered by success, cached.

A perturbation that does not survive rounding to 8 bit cannot be stored in an image file, so
rounding comes before success is judged. Many minimal-norm attacks lose part of their successes
there. What an attack says of its own success does not count.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from tqdm import tqdm

from ...layer.manners import as_found, device_of, same_random_state, warn_user
from ...looks.logits import PickLogits, usual_logits
from .as_attack import Attack, KeyedAttack, as_attack
from .cache import keep, read_kept
from .guard import ModelState, foreign_code
from .images import class_numbers, returned_images, round_to_8_bit
from .keys import data_digest, described, model_digest
from .logits import PickedLogits, checked_logits
from .size import AttackSize, changes

__all__ = ["AdversarialExamples", "craft", "craft_of", "key_of"]

#: rounded images uint8 (B, ...), clean prediction correct (B,), what became of each (B,)
Batch = tuple[Tensor, Tensor, Tensor]

# what became of an image, added up
_SUCCEEDED = 1
_FLAGS = {"fooled": 2, "broken": 4, "unchanged": 8, "outside": 16}


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


def craft(
    model: nn.Module, attack: Attack, x: Tensor, y: Any, **options: Any
) -> AdversarialExamples:
    """
    :func:`craft_of` for images in memory, with its keyword arguments.

    :param x: images (N, ...) in [0, 1]
    :param y: class numbers (N,)
    :raises ValueError: as :func:`craft_of`, and if x and y do not fit together
    """
    y = class_numbers(y)
    if len(x) != len(y) or y.ndim != 1 or len(y) == 0:
        raise ValueError(
            "x must be images (N, ...) and y labels (N,) with N > 0, "
            f"got shapes {tuple(x.shape)} and {tuple(y.shape)}"
        )
    return craft_of(model, attack, TensorDataset(x.detach(), y.detach().to(x.device)), **options)


def craft_of(
    model: nn.Module,
    attack: Attack,
    data: Dataset[Any],
    *,
    name: str | None = None,
    batch_size: int = 100,
    cache: str | Path | None = None,
    key: str | None = None,
    seed: int = 0,
    logits: PickLogits | None = None,
    progress: bool = True,
) -> AdversarialExamples:
    """
    Attacks images and keeps what succeeds after rounding to 8 bit: the clean image is classified
    correctly and the rounded one is not. The model runs in evaluation mode; its mode, weights,
    buffers, hooks, gradients and all random states are afterwards as they were, whatever the
    attack does.

    With ``cache``, each batch is stored as soon as it is done. An interrupted run resumes after
    the last complete batch. What is stored belongs to the model's weights and its answers to a
    few images, to the data, the attack's settings, ``batch_size`` and ``seed``; successes are
    checked again by one forward pass.

    :param model: classifier of images in [0, 1]
    :param attack: see :func:`~pytorch_ood_viyog.benchmark.attacks.as_attack.as_attack`
    :param data: images in [0, 1] and class numbers
    :param name: name in the progress bar and of the cache folder, by default the attack's class
    :param batch_size: images attacked together
    :param cache: folder for finished batches, None to store nothing
    :param key: text that stands for the attack and its settings, by default all that is found
    :param seed: seeds Python, torch and NumPy before each batch
    :param logits: picks the logits out of the model's output, where that is no tensor of them
    :param progress: show a progress bar
    :return: the successful examples and the size of the attack
    :raises ValueError: if the images leave [0, 1], the model gives one number an image, or the
        attack returns something else than images; settings cannot be told and there is no ``key``
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    attack = as_attack(attack)
    name = name or str(getattr(attack, "__name__", type(attack).__name__))
    classifier = model if logits is None else PickedLogits(model, logits)
    with same_random_state():  # a loader draws a seed
        batches = tqdm(DataLoader(data, batch_size), desc=name, disable=not progress)
        with as_found(classifier):
            folder = None
            if cache is not None:
                settings = f"{name}\n{key or key_of(attack, model)} {batch_size=} {seed=} "
                settings += data_digest(data)
                folder = Path(cache) / f"{name}-{model_digest(classifier, data, settings)}"
            work = _Crafting(classifier, attack, seed, folder)
            for number, (x, y) in enumerate(batches):
                work.add(number, x, y)
    return work.examples()


def key_of(attack: Attack, model: nn.Module) -> str:
    """:return: text that stands for an attack, by default all settings that are found"""
    known = {id(model): "the model"}
    return attack.key if isinstance(attack, KeyedAttack) else described(attack, known)


class _Crafting:
    """Batches of one attack, judged one after the other."""

    def __init__(self, model: nn.Module, attack: Attack, seed: int, folder: Path | None):
        self.model = model
        self.attack = attack
        self.seed = seed
        self.folder = folder
        self.state = ModelState(model)
        self._attacked_model: nn.Module | None = None
        self._kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._attacked = self._images = 0
        self._outcomes: list[Tensor] = []

    def add(self, number: int, x: Tensor, y: Tensor) -> None:
        """Attack a batch, or take it from the folder."""
        if not (x.is_floating_point() and x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"x must be floating point in [0, 1], got {x.dtype} from {x.min():g} "
                f"to {x.max():g}"
            )
        x, y = (part.to(device_of(self.model)) for part in (x, y))
        file = self.folder and self.folder / f"{number:05d}.pt"
        batch = read_kept(file, lambda kept: _as_batch(kept, x.shape))
        if batch is not None and not self._confirmed(batch, y):
            warn_user(
                f"{self.folder and self.folder.name}: the model answers other than when batch "
                f"{number} was stored, which is computed again",
            )
            batch = None
        if batch is None:
            batch = self._attack(x, y, self.seed + number)
            keep(file, batch)
        self._keep(batch, x.cpu(), y.cpu())

    def _confirmed(self, batch: Batch, y: Tensor) -> bool:
        pixels, correct, outcome = (part.to(y.device) for part in batch)
        fooled = self._classes(pixels.float() / 255) != y
        return torch.equal(correct & fooled, (outcome & _SUCCEEDED).bool())

    def _attack(self, x: Tensor, y: Tensor, seed: int) -> Batch:
        correct = self._classes(x) == y
        attacked, outcome = x.clone(), torch.zeros(len(x), dtype=torch.uint8, device=x.device)
        if correct.any():
            given, labels = x[correct], y[correct]
            if self._attacked_model is None:  # one that returns logits by name returns them alone
                tensor = isinstance(self.model(given[:1]), Tensor)
                self._attacked_model = (
                    self.model if tensor else PickedLogits(self.model, usual_logits)
                )
            with foreign_code(self.state, seed):
                # a copy: some attacks write into what they are given
                returned = self.attack(self._attacked_model, given.clone(), labels.clone())
            attacked[correct], outcome[correct] = self._judged(returned, given, labels)
        pixels = (attacked * 255).round().to(torch.uint8)
        return pixels.cpu(), correct.cpu(), outcome.cpu()

    def _judged(self, returned: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Images as they can be stored, and what became of each."""
        images = returned_images(returned, x)
        finite = images.flatten(1).isfinite().all(1)
        images = torch.where(finite.view(-1, *[1] * (x.dim() - 1)), images, x)
        outside = (images - images.clamp(0, 1)).flatten(1).abs().amax(1) > 0.5 / 255
        if outside.any():
            warn_user(
                f"The attack returned {int(outside.sum())} of {len(x)} images outside [0, 1], "
                f"which were clipped.",
            )
        rounded = round_to_8_bit(images)
        outcome = finite & (self._classes(rounded) != y)
        outcome = outcome.to(torch.uint8) * _SUCCEEDED
        happened = {
            "fooled": finite & (self._classes(images.clamp(0, 1)) != y),
            "broken": ~finite,
            "unchanged": finite & (rounded == round_to_8_bit(x)).flatten(1).all(1),
            "outside": outside,
        }
        for what, where in happened.items():
            outcome += _FLAGS[what] * where.to(torch.uint8)
        return rounded, outcome

    def _classes(self, x: Tensor) -> Tensor:
        return checked_logits(self.model, x).argmax(dim=1)

    def _keep(self, batch: Batch, x: Tensor, y: Tensor) -> None:
        pixels, correct, outcome = batch
        chosen = (outcome & _SUCCEEDED).bool()
        found = pixels[chosen]
        index = self._images + chosen.nonzero().squeeze(1)
        self._kept.append((found, y[chosen], index, changes(found.float() / 255, x[chosen])))
        self._outcomes.append(outcome)
        self._attacked += int(correct.sum())
        self._images += len(x)

    def examples(self) -> AdversarialExamples:
        """:return: all that succeeded"""
        pixels, y, index, found = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
        outcomes = torch.cat(self._outcomes)
        counts = {name: int((outcomes & flag).bool().sum()) for name, flag in _FLAGS.items()}
        means = found.double().mean(0).tolist() if len(found) else [math.nan] * 4
        linf, rms, l2, share = means
        size = AttackSize(self._attacked, len(found), linf, rms, self._images, l2=l2, pixels=share)
        size = replace(size, **counts)  # type: ignore[arg-type]
        return AdversarialExamples(pixels.float() / 255, y, index, size)


def _as_batch(kept: Any, shape: torch.Size) -> Batch:
    attacked, correct, outcome = kept
    if attacked.shape != shape or not len(correct) == len(outcome) == shape[0]:
        raise ValueError(f"expected shape {tuple(shape)}, got {tuple(attacked.shape)}")
    return attacked, correct, outcome
