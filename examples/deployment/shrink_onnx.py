"""
Make a file of ``export_onnx`` smaller, and keep its score: int8, static or dynamic, or float16.

    python shrink_onnx.py model.onnx smaller.onnx --how static-int8 --images FOLDER

The nodes of the score stay in float32, and get what they read before it was rounded. The new file
is compared with the old one on the images, and not written if it ranks their scores otherwise, or
changes more than 5 % of the verdicts of a triage.
Needs onnx, onnxruntime, Pillow and this package.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic
from onnxruntime.quantization import quantize_static as quantize
from onnxruntime.transformers.float16 import convert_float_to_float16
from PIL import Image

from pytorch_ood_viyog.deploy import score_nodes

#: correlation of ranks that scores of both files must have
LEAST = 0.99
#: images that ranks can be told by
FEWEST = 8
#: share of equal verdicts
LEAST_EQUAL = 0.95


class Batches(CalibrationDataReader):
    """Hands out batches of inputs to the quantiser."""

    def __init__(self, batches: Sequence[np.ndarray]):
        self._rest = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._rest, None)
        return None if batch is None else {"input": batch}


def static_int8(path: Path, smaller: Path, batches: Sequence[np.ndarray]) -> None:
    """
    :param path: file of ``export_onnx``
    :param smaller: file to write
    :param batches: inputs that ranges of activations are measured on
    """
    quantize(path, smaller, Batches(batches), nodes_to_exclude=score_nodes(path))
    _unrounded(smaller, "QuantizeLinear", "DequantizeLinear")


def dynamic_int8(path: Path, smaller: Path, batches: Sequence[np.ndarray] = ()) -> None:
    """As :func:`static_int8`; ranges are measured as the file runs."""
    # ONNX Runtime's convolutions of integers take no signed weights
    quantize_dynamic(
        path, smaller, weight_type=QuantType.QUInt8, nodes_to_exclude=score_nodes(path)
    )


def float16(path: Path, smaller: Path, batches: Sequence[np.ndarray] = ()) -> None:
    """As :func:`static_int8`, in float16; inputs and outputs keep their type."""
    model = onnx.load(path)
    halved = convert_float_to_float16(model, keep_io_types=True, node_block_list=score_nodes(path))
    onnx.save(halved, smaller)
    _unrounded(smaller, "Cast", "Cast")


WAYS = {"static-int8": static_int8, "dynamic-int8": dynamic_int8, "float16": float16}


def _unrounded(path: Path, to_fewer_bits: str, back: str) -> None:
    """Nodes of the score read what there was before it went through fewer bits and back."""
    model, own = onnx.load(path), set(score_nodes(path))
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            second = made_by.get(name)
            first = made_by.get(second.input[0]) if second is not None else None
            if second is None or first is None or node.name not in own:
                continue
            added = {first.name, second.name}.isdisjoint(own)
            if added and (first.op_type, second.op_type) == (to_fewer_bits, back):
                node.input[place] = first.input[0]
    onnx.save(model, path)


def answers(path: Path, batches: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """
    :param path: ONNX file
    :param batches: inputs
    :return: output -> its values for all inputs
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = [session.run(names, {"input": batch}) for batch in batches]
    return dict(zip(names, map(np.concatenate, zip(*found, strict=True)), strict=True))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """
    :param one: scores
    :param other: other scores of the same inputs
    :return: Spearman's correlation; NaN where a score is not finite
    """
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("nan")
    ranks = [values.argsort(kind="stable").argsort() for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def shrink(path: Path, smaller: Path, how: str, batches: Sequence[np.ndarray]) -> None:
    """
    :param path: file of ``export_onnx``
    :param smaller: file to write
    :param how: one of :data:`WAYS`
    :param batches: inputs to measure ranges and to compare on, best some with residues
    :raises RuntimeError: if scores are not ranked alike, or verdicts differ; no file is written
        then
    """
    with tempfile.TemporaryDirectory(dir=smaller.parent) as folder:
        written = Path(folder) / smaller.name
        WAYS[how](path, written, batches)
        before, after = answers(path, batches), answers(written, batches)
        for name in before:
            if name == "score" or name.startswith("score_"):
                ranked = rank_correlation(before[name], after[name])
                _require(how, name, "rank correlation", ranked, LEAST)
            elif name == "verdict":
                equal = float((before[name] == after[name]).mean())
                _require(how, name, "share of equal ones", equal, LEAST_EQUAL)
        os.replace(written, smaller)


def _require(how: str, name: str, what: str, found: float, least: float) -> None:
    print(f"{name}: {what} {found:.4f}")
    if not found >= least:
        raise RuntimeError(
            f"{how} changes the output {name!r}: {what} {found:.3f}, less than {least}. Nothing "
            f"was written."
        )


def images_of(folder: Path, size: tuple[int, int]) -> list[np.ndarray]:
    """:return: its images in [0, 1], eight a batch"""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if len(files) < FEWEST:
        raise SystemExit(f"--images must hold {FEWEST} images or more, got {len(files)}: {folder}")
    images = [_image(path).resize(size) for path in files]
    arrays = [np.asarray(image, np.float32).transpose(2, 0, 1) / 255 for image in images]
    return [np.stack(arrays[start : start + 8]) for start in range(0, len(arrays), 8)]


def _image(path: Path) -> Image.Image:
    try:
        return Image.open(path).convert("RGB")
    except OSError as error:
        raise SystemExit(f"--images must hold images alone, {path.name}: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("smaller", type=Path)
    parser.add_argument("--how", choices=WAYS, default="static-int8")
    parser.add_argument("--images", type=Path, required=True, help="folder of ID images")
    arguments = parser.parse_args()
    if not arguments.path.is_file():
        parser.error(f"there is no file {arguments.path}")
    session = onnxruntime.InferenceSession(arguments.path)
    height, width = session.get_inputs()[0].shape[2:]
    batches = images_of(arguments.images, (width, height))
    shrink(arguments.path, arguments.smaller, arguments.how, batches)


if __name__ == "__main__":
    main()
