"""
Score any number of images on one or several machines by Ray Data. Needs the extra ``scale``.

    python examples/scale/score_ray.py --state fitted.pt --images FOLDER --out scores
    python examples/scale/score_ray.py --state triage.pt --images shards/ --parquet --out scores

Images are the files of a folder, or the rows of Parquet files with the columns ``path`` and
``image`` (encoded bytes). Each worker builds the model, loads the fitted state and keeps both;
model and state never travel. ``--out`` is a folder of Parquet files with ``path``, ``error``,
``score`` or for a Triage ``verdict``, ``posterior_ID`` and the other three, and ``p_OOD``,
``p_ADV`` and ``p_NOISY``. An image that cannot be read is a row with its error. Started again, the
script goes on with what is not in ``--out`` yet.

On a cluster, start it with ``RAY_ADDRESS`` set; state, images and ``--out`` must lie where all
machines see them under the same path.
"""

import argparse
import io
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
import torch
from engine import start
from judges import load_judge
from torch import Tensor

from pytorch_ood_viyog import Triage, Verdict
from pytorch_ood_viyog.images.disk.files import ImageFiles, load_images

# what is lost where a run is stopped: at most so many images of each worker
IMAGES_A_FILE = 512
# order of the probabilities that a Triage gives
KINDS = (Verdict.ID, Verdict.OOD, Verdict.ADV, Verdict.NOISY)


class Scorer:
    """A worker: one judge, and all the images that come to it."""

    def __init__(self, state: Path, model: str, size: int, done: frozenset[str]):
        torch.set_num_threads(1)
        self.judge = load_judge(state, model)
        self.size, self.done = size, done
        texts, numbers = ["path", "error"], ["score"]
        if isinstance(self.judge, Triage):
            texts.append("verdict")
            numbers = [f"posterior_{kind.name}" for kind in KINDS]
            numbers += [f"p_{kind.name}" for kind in KINDS[1:]]
        fields = [(name, pa.string()) for name in texts]
        self.schema = pa.schema(fields + [(name, pa.float64()) for name in numbers])

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = [row for row in batch.to_pylist() if row["path"] not in self.done]
        pixels = [self._read(row) for row in rows]
        good = [number for number, image in enumerate(pixels) if isinstance(image, Tensor)]
        found: dict[int, dict[str, Any]] = {}
        if good:
            judged = self._judge(torch.stack([pixels[number] for number in good]))
            found = dict(zip(good, judged, strict=True))
        table = [
            {"path": row["path"], **found.get(number, {"error": pixels[number]})}
            for number, row in enumerate(rows)
        ]
        return pa.Table.from_pylist(table, schema=self.schema)

    def _read(self, row: dict[str, Any]) -> Tensor | str:
        source = io.BytesIO(row["image"]) if "image" in row else row["file"]
        try:
            return ImageFiles([source], [0], self.size)[0][0]
        except Exception as error:  # decoders raise all kinds; one image must not stop the others
            return f"{type(error).__name__}: {error}"

    def _judge(self, x: Tensor) -> list[dict[str, Any]]:
        if not isinstance(self.judge, Triage):
            return [{"score": score} for score in self.judge.predict(x).tolist()]
        explained = self.judge.explain(x)
        columns: dict[str, list[Any]] = {
            "verdict": [Verdict(verdict).name for verdict in explained.verdicts.tolist()]
        }
        for kind, shares in zip(KINDS, explained.posterior.unbind(dim=1), strict=True):
            columns[f"posterior_{kind.name}"] = shares.tolist()
        for name, p_values in explained.p_values.items():
            columns[f"p_{name}"] = p_values.tolist()
        return [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]


def scored_before(out: Path) -> frozenset[str]:
    """Paths that stand in the table; a file that was cut off is taken out of it."""
    done: set[str] = set()
    for file in out.glob("*.parquet"):
        try:
            done.update(pq.read_table(file, columns=["path"])["path"].to_pylist())
        except pa.ArrowInvalid:
            file.unlink()
    return frozenset(done)


def folder_rows(folder: Path, size: int, done: frozenset[str]) -> list[dict[str, str]]:
    images = load_images(folder, size, labelled=False)
    if not isinstance(images, ImageFiles):
        raise ValueError(f"{folder} must be a folder of image files; Parquet needs --parquet.")
    rows = [{"path": f.relative_to(folder).as_posix(), "file": str(f)} for f in images.files]
    return [row for row in rows if row["path"] not in done]


def score(
    images: ray.data.Dataset, judge: Iterable[Any], out: Path, workers: int, batch_size: int
) -> None:
    """
    :param images: rows of ``path``, and ``file`` or ``image``
    :param judge: arguments of :class:`Scorer`
    :param out: folder of Parquet files to write to
    :param workers: number of workers
    :param batch_size: images that a worker scores at once
    """
    scored = images.map_batches(
        Scorer,
        fn_constructor_args=tuple(judge),
        batch_format="pyarrow",
        batch_size=batch_size,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    scored.write_parquet(str(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--state", type=Path, required=True, help="saved state_dict()")
    parser.add_argument("--images", type=Path, required=True, help="folder of images or Parquet")
    parser.add_argument("--parquet", action="store_true", help="the folder holds Parquet files")
    parser.add_argument("--size", type=int, default=224, help="height and width, as in the fit")
    parser.add_argument("--model", default="resnet18", help="name of the model of the fit")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2, help="each takes one CPU core")
    parser.add_argument("--out", type=Path, required=True, help="folder, made or continued")
    options = parser.parse_args()
    out, images = options.out.resolve(), options.images.resolve()
    out.mkdir(parents=True, exist_ok=True)
    done = scored_before(out)

    start(options.workers + 1)  # one more reads and writes
    if options.parquet:
        rows = ray.data.read_parquet(str(images), columns=["path", "image"])
    else:
        listed = folder_rows(images, options.size, done)
        blocks = max(min(options.workers, len(listed)), -(-len(listed) // IMAGES_A_FILE))
        rows = ray.data.from_items(listed, override_num_blocks=blocks) if listed else None
    begin = time.perf_counter()
    if rows is not None:
        judge = (options.state.resolve(), options.model, options.size, done)
        score(rows, judge, out, options.workers, options.batch_size)
    seconds = time.perf_counter() - begin
    count = len(scored_before(out)) - len(done)
    print(
        f"{count} images scored in {seconds:.1f} s by {options.workers} worker(s), {options.out}"
    )


if __name__ == "__main__":
    main()
