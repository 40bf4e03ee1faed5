"""The way an image takes: what libraries, codecs and rounding do to the detector, and what
``through=`` and ``SameWay`` do about it.

.. code-block:: bash

    python examples/benchmarks/ways.py --images ORIGINALS.tar --fit FOLDER_OR_NPZ

``--images``: photographs in original sizes, a folder or a tar file. ``--fit``: other photographs
that Pillow brought to 224 pixels; detectors are fitted on them, thresholds are set on the first
half of ``--images`` and all numbers are of the other. Every reading is stored in the cache folder;
an interrupted run goes on where it stopped. Libraries that are not installed are left out.
"""

import argparse
import hashlib
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import foolbox
import numpy as np
import torch
from photographs import read_images
from sources import fingerprint, stored
from torch import Tensor
from tqdm import tqdm
from ways_cost import cost_rows
from ways_libraries import CHECKED, library_rows, other_way_rows
from ways_pipelines import PIPELINES, REFERENCE, SIZE
from ways_report import report
from ways_rows import BATCH, answers, codec_rows, triage_rows

from pytorch_ood_viyog.benchmark.model_names import named_model

#: strengths of PGD
LEVELS = (8, 4)
#: photographs of which some are checked and 30, SameWay's fewest, are left to fit on
FEWEST = CHECKED + 30


def originals(source: Path) -> dict[str, bytes]:
    """:return: name -> file of a folder or a tar file, in a random order of their own"""
    if source.is_dir():
        files = {p.stem: p.read_bytes() for p in sorted(source.iterdir()) if p.is_file()}
    else:
        with tarfile.open(source) as tar:
            members = sorted((m for m in tar.getmembers() if m.isfile()), key=lambda m: m.name)
            files = {Path(m.name).stem: tar.extractfile(m).read() for m in members}
    names, order = list(files), torch.randperm(len(files), generator=torch.manual_seed(0))
    return {names[i]: files[names[i]] for i in order}


def others(source: str, taken: Iterable[str]) -> Tensor:
    """:return: photographs to fit on: none whose class is the name of a file that is taken"""
    images = read_images(source, SIZE)
    path, _, name = source.partition(".npz:")
    if not name:
        return images
    with np.load(f"{path}.npz") as content:
        labels = content[f"{name}_labels"].tolist()
    numbers = {int(each) for each in taken if each.isdigit()}
    return images[torch.tensor([label not in numbers for label in labels])]


def attacked(model: torch.nn.Module, x: Tensor, levels: int) -> Tensor:
    """:return: PGD of ten steps at so many levels, rounded to 8 bit"""
    torch.manual_seed(0)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(steps=10, rel_stepsize=0.25)
    found = [
        attack(wrapped, part, answers(model, part), epsilons=levels / 255)[1]
        for part in tqdm(x.split(BATCH), desc=f"PGD {levels}", leave=False)
    ]
    return (torch.cat(found) * 255).round() / 255


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--images", type=Path, required=True, help="photographs in original sizes: folder or tar")
    add("--fit", required=True, help="other photographs at 224 pixels: folder, .npz or .npz:NAME")
    add("--model", default="efficientnet-lite0", help="default: efficientnet-lite0")
    add("--n", type=int, default=200, help="of these so many, default: 200")
    add("--fitted", type=int, default=200, help="photographs to fit on, default: 200")
    add("--attacked", type=int, default=24, help="photographs to attack, default: 24")
    add("--cache", type=Path, default=Path(".cache/ways"), help="default: .cache/ways")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="default: results")
    options = parser.parse_args()
    if options.n < FEWEST:
        parser.error(f"--n must be at least {FEWEST}, got {options.n}")
    sizes = (options.n, options.fitted, options.attacked)
    key = f"{options.images} {options.fit} {options.model} {sizes}"
    folder = options.cache / hashlib.sha256(f"stored {key}".encode()).hexdigest()[:12]

    def images(name: str, make: Callable[[], Tensor], belongs_to: str = key) -> Tensor:
        file = name.replace(" ", "_").replace("/", "_").replace(":", "")
        return stored(folder / f"{file}.pt", belongs_to, False, make)

    def cache(name: str, make: Callable[[], Tensor]) -> Tensor:
        return images(name, make, f"{key} {fingerprint(__file__)}")

    model = named_model(options.model)
    every = originals(options.images)
    files = [*every.values()][: options.n]
    fit = others(options.fit, every)[: options.fitted]

    def brought(way: str) -> Tensor:
        return images(f"brought {way}", lambda: torch.stack([*map(PIPELINES[way], files)]))

    def attacks(way: str, levels: int) -> Tensor:
        start = brought(way)[len(files) // 2 :][: options.attacked]
        return images(f"pgd {levels} {way}", lambda: attacked(model, start, levels))

    clean = brought(REFERENCE)
    adv = {levels: attacks(REFERENCE, levels) for levels in LEVELS}
    # what takes longest last
    parts = {
        "libraries": lambda: library_rows(cache, model, fit, brought),
        "other ways": lambda: other_way_rows(cache, model, brought, attacks),
        "cost": lambda: [cost_rows()],
        "codecs": lambda: codec_rows(cache, model, fit, clean, adv),
        "verdicts": lambda: triage_rows(cache, model, fit, clean, adv),
    }
    tables = {}
    for name, rows in parts.items():
        for tables[name] in rows():
            print(name, tables[name][-1:], flush=True)
    print(report(options.out / "ways.md", tables, sizes))


if __name__ == "__main__":
    main()
