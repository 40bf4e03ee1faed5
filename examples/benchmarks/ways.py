"""The way an image takes: what libraries, codecs and rounding do to the detector, and what
``through=`` and ``SameWay`` do about it.

.. code-block:: bash

    python examples/benchmarks/ways.py --images ORIGINALS.tar --fit FOLDER_OR_NPZ

``--images``: photographs in original sizes, a folder or a tar file. ``--fit``: other photographs
that Pillow brought to 224 pixels; the detector is fitted on them, thresholds are set on the first
part of ``--images`` and all numbers are of the rest. Every reading is stored in the cache folder;
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
from torch import Tensor
from tqdm import tqdm
from ways_pipelines import PIPELINES, REFERENCE
from ways_report import report

from pytorch_ood_viyog import SameWay, ViyogResidue
from pytorch_ood_viyog.benchmark.model_names import named_model
from pytorch_ood_viyog.detectors import ResidueAlarm
from pytorch_ood_viyog.images import apply_ways

SIZE, BATCH = 224, 16
CODECS = ("none", "JPEG 95 4:4:4", "JPEG 95 4:2:0", "JPEG 75", "WebP 80")
FIVE = ("rounding", "JPEG 95 4:2:0", "JPEG 75", "WebP 80", "resize 0.5 lanczos")
#: strengths of PGD
LEVELS = (8, 4)
#: images of a check, and how many random ones
CHECKED, CHECKS = 50, 40


class Cache:
    """Tensors by name in a folder."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()[:12]
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        path = self.folder / f"{name.replace(' ', '_').replace('/', '_').replace(':', '')}.pt"
        if not path.exists():
            torch.save(make(), path)
        found: Tensor = torch.load(path, weights_only=True)
        return found


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
    attack = foolbox.attacks.LinfPGD(steps=10)
    found = [
        attack(wrapped, part, answers(model, part), epsilons=levels / 255)[1]
        for part in tqdm(x.split(BATCH), desc=f"PGD {levels}", leave=False)
    ]
    return (torch.cat(found) * 255).round() / 255


@torch.no_grad()
def answers(model: torch.nn.Module, x: Tensor) -> Tensor:
    """:return: classes of the model's answers"""
    return torch.cat([model(part).argmax(dim=1) for part in x.split(BATCH)])


def read(detector: ViyogResidue, x: Tensor) -> Tensor:
    """:return: features, the score of ViyogResidue and that of ResidueAlarm, one image a row"""
    alarm = ResidueAlarm(detector)
    rows = [
        torch.cat([detector.readings(p), detector(p)[:, None], alarm(p)[:, None]], dim=1)
        for p in x.split(BATCH)
    ]
    return torch.cat(rows)


def libraries(cache: Cache, detector: ViyogResidue, files: list[bytes]) -> dict[str, Tensor]:
    """:return: name of a way -> readings of all photographs"""
    found = {}
    for name, bring in tqdm(PIPELINES.items(), desc="libraries"):
        try:
            found[name] = cache(
                f"way {name}",
                lambda bring=bring: read(detector, torch.stack([*map(bring, files)])),
            )
        except ImportError as error:
            print(f"{name} is left out: {error}")
    return found


def wrong_fits(cache: Cache, model: torch.nn.Module, fit: Tensor, x: Tensor) -> list[dict]:
    """:return: rows of detectors that were fitted on one way and get another"""
    rows = []
    for name in ("resize 0.5", "JPEG 95 4:2:0", "resize 0.95 bilinear torchvision-float"):
        sent = apply_ways(name, fit)

        def readings(sent: Tensor = sent, name: str = name) -> Tensor:
            detector = ViyogResidue(model).fit(sent.split(BATCH))
            return torch.stack([read(detector, apply_ways(name, x)), read(detector, x)])

        same, other = cache(f"fitted on {name}", readings)
        half = len(x) // 2
        rates = [
            float((other[half:, c] > same[:half, c].quantile(0.95)).double().mean())
            for c in (-2, -1)
        ]
        rows.append(
            {"fitted on": name, "false alarms, ViyogResidue": rates[0], "ResidueAlarm": rates[1]}
        )
    return rows


def codec_rows(
    cache: Cache, model: torch.nn.Module, fit: Tensor, clean: Tensor, adv: dict[int, Tensor]
) -> list[dict]:
    """:return: rows of attacks that went through a codec before the model saw them"""
    rows, split = [], len(clean) // 2
    truth = answers(model, clean[split : split + len(adv[8])])
    ways = [*CODECS, FIVE]
    for way in tqdm(ways, desc="codecs"):
        name = "one of five" if way is FIVE else way
        through = "rounding" if way == "none" else way
        sent = {0: apply_ways(through, clean, seed=5)}
        sent |= {e: apply_ways(through, x, seed=5) for e, x in adv.items()}
        for kind in ("behind", "through"):

            def readings(kind: str = kind, through=through, sent=sent) -> Tensor:
                if kind == "through":
                    detector = ViyogResidue(model, through=through).fit(fit.split(BATCH))
                else:
                    detector = ViyogResidue(model).fit(apply_ways(through, fit).split(BATCH))
                return read(detector, torch.cat([*sent.values()]))

            scores = cache(f"codec {name} {kind}", readings)[:, -2:]
            known, *attacks = scores.split([len(x) for x in sent.values()])
            limit = known[:split].quantile(0.95, dim=0)
            raised = (known[split:] > limit).double().mean(dim=0)
            row = {"codec": name, "residues": kind}
            row |= {"FP residue": float(raised[0]), "FP alarm": float(raised[1])}
            for level, found in zip(adv, attacks, strict=True):
                fools = answers(model, sent[level]) != truth
                share = (found[fools] > limit).double().mean(dim=0)
                either = (found[fools] > limit).any(dim=1).double().mean()
                row |= {f"fool {level}": float(fools.double().mean())}
                row |= {f"residue {level}": float(share[0]), f"alarm {level}": float(share[1])}
                row |= {f"either {level}": float(either)}
            rows.append(row)
    return rows


def same_way_rows(detector: ViyogResidue, found: dict[str, Tensor]) -> list[dict]:
    """:return: false alarms of a way, and how often a check of 50 images finds it"""
    generator = np.random.default_rng(0)
    reference = found[REFERENCE].numpy()
    split = len(reference) // 2
    limits = found[REFERENCE][:split, -2:].quantile(0.95, dim=0)
    rows = []
    for name, readings in tqdm(found.items(), desc="SameWay"):
        raised = (readings[split:, -2:] > limits).double().mean(dim=0)
        seen = []
        for _ in range(CHECKS):
            order = generator.permutation(len(reference))
            same = SameWay(detector, permutations=499)
            same.fit_readings(reference[order[CHECKED:], :-2])
            seen.append(same.check_readings(readings.numpy()[order[:CHECKED], :-2]).p_value < 0.01)
        rows.append(
            {"way": name, "FP residue": float(raised[0]), "FP alarm": float(raised[1])}
            | {"found by SameWay": float(np.mean(seen))}
        )
    return rows


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--images", type=Path, required=True, help="photographs in original sizes: folder or tar")
    add("--fit", required=True, help="other photographs at 224 pixels: folder, .npz or .npz:NAME")
    add("--model", default="efficientnet-lite0", help="default: efficientnet-lite0")
    add("--n", type=int, default=150, help="of these so many, default: 150")
    add("--fitted", type=int, default=150, help="photographs to fit on, default: 150")
    add("--attacked", type=int, default=30, help="photographs to attack, default: 30")
    add("--cache", type=Path, default=Path(".cache/ways"), help="default: .cache/ways")
    add("--out", type=Path, default=Path(__file__).parent / "results", help="default: results")
    options = parser.parse_args()
    sizes = (options.n, options.fitted, options.attacked)
    cache = Cache(options.cache, f"{options.images} {options.fit} {options.model} {sizes}")
    model = named_model(options.model)
    every = originals(options.images)
    files = [*every.values()][: options.n]
    fit = others(options.fit, every)[: options.fitted]
    clean = cache("clean", lambda: torch.stack([*map(PIPELINES[REFERENCE], files)]))
    start = clean[len(clean) // 2 :][: options.attacked]
    adv = {e: cache(f"pgd {e}", lambda e=e: attacked(model, start, e)) for e in LEVELS}
    tables = {"Codecs between attacker and model": codec_rows(cache, model, fit, clean, adv)}
    options.out.mkdir(parents=True, exist_ok=True)

    def written() -> None:
        text = report(tables, sizes)
        (options.out / "ways.md").write_text(text, encoding="utf-8")
        print(text, flush=True)

    written()
    detector = ViyogResidue(model).fit(fit.split(BATCH))
    tables["Libraries, fitted on the Pillow way"] = same_way_rows(
        detector, libraries(cache, detector, files)
    )
    written()
    tables["Fitted on another way than deployed"] = wrong_fits(cache, model, fit, clean)
    written()


if __name__ == "__main__":
    main()
