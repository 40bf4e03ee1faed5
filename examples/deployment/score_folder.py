"""
Score all images of a folder, of any number, and go on where an earlier run was stopped.

    python examples/deployment/score_folder.py --state fitted.pt --images FOLDER --out scores.csv
    python examples/deployment/score_folder.py --quick --out scores.csv

The state is what fit_torchrun.py saves, or that of a Triage. Memory holds one batch and the list
of files; every batch is on disk before the next one is read. Higher scores are more adversarial:
those of a Triage are the log-odds of ADV, and it gives verdicts too. Images that cannot be read
get an empty score and the reason.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torchvision
from fit_torchrun import DETECTORS, build_model, generated_images
from torch import Tensor
from tqdm import tqdm

from pytorch_ood_viyog import Triage, Verdict
from pytorch_ood_viyog.detectors.base import FirstLayerDetector
from pytorch_ood_viyog.images.disk.decoding import UnreadableImageError
from pytorch_ood_viyog.images.disk.files import ImageFiles, load_images

HEAD = ["file", "verdict", "score", "error"]
JUDGES = {**DETECTORS, "Triage": Triage}

Judge = FirstLayerDetector | Triage


def scored_before(out: Path) -> set[str]:
    """Files that stand in the table; a last line that was cut off is taken out of it."""
    if not out.exists():
        return set()
    content = out.read_text()
    whole = content[: content.rfind("\n") + 1]
    if whole != content:
        out.write_text(whole)
    table = csv.DictReader(whole.splitlines())
    if table.fieldnames not in (None, HEAD):
        raise ValueError(f"{out} has the columns {table.fieldnames}, not {HEAD}: name a new file.")
    return {row["file"] for row in table}


def read(images: ImageFiles, number: int) -> Tensor | str:
    try:
        return images[number][0]
    except UnreadableImageError as error:
        return str(error)


def judged(judge: Judge, x: Tensor) -> list[tuple[str, str]]:
    """Verdict, empty of a detector, and score of each image."""
    if not isinstance(judge, Triage):
        return [("", f"{score:.6g}") for score in judge.predict(x).tolist()]
    id_odds, ood, adv, noisy = (z := judge.log_odds(x)).unbind(dim=1)
    scores = adv - torch.stack([id_odds, ood, noisy]).logsumexp(dim=0)
    verdicts = judge.fitted.thresholds.verdicts(z)
    pairs = zip(verdicts.tolist(), scores.tolist(), strict=True)
    return [(Verdict(verdict).name, f"{score:.6g}") for verdict, score in pairs]


def rows(
    judge: Judge, images: ImageFiles, numbers: list[int], root: Path
) -> Iterator[tuple[str, str, str, str]]:
    """File, verdict, score and error of each image of a batch."""
    pixels = {number: read(images, number) for number in numbers}
    good = [number for number, image in pixels.items() if isinstance(image, Tensor)]
    found = {}
    if good:
        batch = torch.stack([pixels[number] for number in good])
        found = dict(zip(good, judged(judge, batch), strict=True))
    for number in numbers:
        name = images.files[number].relative_to(root).as_posix()
        if number in found:
            yield name, *found[number], ""
        else:
            yield name, "", "", str(pixels[number])


def score_folder(judge: Judge, folder: Path, out: Path, size: int, batch_size: int) -> int:
    """:return: number of images scored in this run"""
    images = load_images(folder, size, labelled=False)
    if not isinstance(images, ImageFiles):
        raise ValueError(f"{folder} must be a folder of image files, not of shards.")
    done = scored_before(out)
    names = (file.relative_to(folder).as_posix() for file in images.files)
    left = [number for number, name in enumerate(names) if name not in done]
    with out.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if out.stat().st_size == 0:
            writer.writerow(HEAD)
        for start in tqdm(range(0, len(left), batch_size), desc="score", disable=None, delay=1):
            batch = left[start : start + batch_size]
            writer.writerows(rows(judge, images, batch, folder))
            file.flush()
    return len(left)


def quick_example(folder: Path) -> FirstLayerDetector:
    """A fitted detector, and a folder of generated images for it."""
    dataset = generated_images()
    for number in range(24):
        torchvision.utils.save_image(dataset[number][0], folder / f"{number:03d}.png")
    detector = DETECTORS["ViyogTV"](build_model("resnet18"))
    return detector.fit([dataset[:][0]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--state", type=Path, help="saved state_dict()")
    parser.add_argument("--images", type=Path, help="folder of images, sub-folders included")
    parser.add_argument("--size", type=int, default=224, help="height and width, as in the fit")
    parser.add_argument("--model", default="resnet18", help="name of the model of the fit")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, required=True, help="CSV file, made or continued")
    parser.add_argument("--quick", action="store_true", help="generated images")
    options = parser.parse_args()
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            detector = quick_example(Path(folder))
            count = score_folder(detector, Path(folder), options.out, 32, options.batch_size)
    else:
        if options.state is None or options.images is None:
            parser.error("give --state and --images, or --quick")
        state = torch.load(options.state, weights_only=True)
        judge = JUDGES[state["class"]](build_model(options.model)).load_state_dict(state)
        size, batch_size = options.size, options.batch_size
        count = score_folder(judge, options.images, options.out, size, batch_size)
    print(f"{count} images scored, {options.out}")


if __name__ == "__main__":
    main()
