"""Trains the benchmark's classifiers and crafts its attacks, all kept in a cache folder.

.. code-block:: bash

    python examples/benchmarks/prepare.py --data DATA_FOLDER

Every step is stored when it is done: an interrupted run goes on where it stopped, a second run
only reads. The table printed at the end gives each model's accuracy and each attack's success
rate and size after rounding to 8 bit.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from images import CLASSES, Images, noise_sets, ood_sets, test_images, train_images
from models import accuracy, build, load_or_train
from torch import Tensor, nn

from pytorch_ood_viyog.benchmark.attacks.craft import AdversarialExamples, craft
from pytorch_ood_viyog.benchmark.attacks.named import named_attack


@dataclass(frozen=True)
class Config:
    """
    :param images: an ID set of ``images.ID_SETS``
    :param stem: a stem of ``models.STEMS``
    :param epochs: training length
    :param flip: whether a mirror image keeps its label
    """

    images: str
    stem: str
    epochs: int
    flip: bool = True


CONFIGS = {
    "gtsrb-3x3": Config("gtsrb", "3x3", epochs=25, flip=False),
    "photo15-3x3": Config("photo15", "3x3", epochs=20),
    "photo15-7x7": Config("photo15_64", "7x7", epochs=30),
    "cifar10-3x3": Config("cifar10", "3x3-normalized", epochs=7),
    "photo15-8x8": Config("photo15_64", "8x8", epochs=60),
}
QUICK = "gtsrb-quick"  # a little trained model, to try the scripts and not to report
CONFIGS[QUICK] = Config("gtsrb", "3x3", epochs=8, flip=False)
BENCHMARK = [name for name in CONFIGS if name != QUICK]


ATTACKS = {
    name: named_attack(name)
    for name in ("fgsm8", "pgd8", "pgd4", "pgd2", "bim8", "deepfool", "cw")
}


def load_model(name: str, data: Path, cache: Path) -> nn.Module:
    """
    :param name: a key of ``CONFIGS``
    :return: the classifier in evaluation mode, trained now if the cache does not hold it
    """
    config = CONFIGS[name]
    model = build(config.stem, CLASSES[config.images])
    path = cache / "models" / f"{name}.pt"
    return load_or_train(
        path, model, lambda: train_images(config.images, data), config.epochs, config.flip
    )


def load_attack(
    name: str,
    attack: str,
    model: nn.Module,
    test: Images,
    cache: Path,
    n: int = 400,
    progress: bool = True,
) -> AdversarialExamples:
    """
    :param name: a key of ``CONFIGS``
    :param attack: a key of ``ATTACKS``
    :param test: the configuration's test images, of which the first ``n`` are attacked
    :return: the successful examples, crafted now as far as the cache does not hold them
    """
    return craft(
        model,
        ATTACKS[attack],
        test.x[:n],
        test.y[:n],
        name=attack,
        cache=cache / "attacks" / name,
        progress=progress,
    )


def load_ood(name: str, data: Path) -> dict[str, Tensor]:
    """
    :param name: a key of ``CONFIGS``
    :return: natural OOD sets and noise images of the configuration's size, in [0, 1]
    """
    images = CONFIGS[name].images
    natural = ood_sets(images, data)
    return natural | noise_sets(next(iter(natural.values())).shape[-1])


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .npz files")
    parser.add_argument("--cache", type=Path, default=Path(".cache"), help="default: .cache")
    parser.add_argument("--configs", nargs="+", choices=CONFIGS, default=BENCHMARK)
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--n", type=int, default=400, help="images attacked, default: 400")
    parser.add_argument("--quick", action="store_true", help="one model, two attacks, 100 images")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.configs, arguments.attacks, arguments.n = [QUICK], ["fgsm8", "pgd8"], 100
    rows = []
    for name in arguments.configs:
        model = load_model(name, arguments.data, arguments.cache)
        test = test_images(CONFIGS[name].images, arguments.data)
        print(f"{name}: accuracy {accuracy(model, test):.3f} on {len(test)} images", flush=True)
        for attack in arguments.attacks:
            size = load_attack(name, attack, model, test, arguments.cache, arguments.n).size
            rows.append(
                f"{name:<12} {attack:<9} {size.attacked:>8} {size.succeeded:>9} "
                f"{size.success_rate:>8.3f} {size.linf:>8.2f} {size.rms:>8.2f}"
            )
            print(rows[-1], flush=True)
    print("\nconfig       attack    attacked succeeded     rate  linf/255  rms/255")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
