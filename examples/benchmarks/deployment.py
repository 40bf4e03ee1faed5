"""
What is left of a score after deployment: exported files in other runtimes and in fewer bits.

    python examples/benchmarks/deployment.py

ResNet-18 with random weights at 64 px; crops of photographs are clean or have random signs of
8/255. Routes whose packages are not installed (openvino, executorch) get a row that says so.
Results go to results/deployment.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from onnxruntime.quantization import quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from pytorch_ood_viyog import ViyogResidue, export_onnx, with_score

sys.path.insert(0, str(Path(__file__).parents[1] / "deployment"))
from shrink_onnx import WAYS, Batches, answers, rank_correlation

RESULTS = Path(__file__).parent / "results" / "deployment.md"
SIZE, BATCH = 64, 16
Answers = dict[str, np.ndarray]


def crops(count: int, seed: int) -> Tensor:
    """Crops of the photographs that scikit-learn ships."""
    generator = torch.Generator().manual_seed(seed)
    photos = [torch.tensor(p).permute(2, 0, 1) / 255 for p in load_sample_images().images]
    found = []
    for number in range(count):
        photo = photos[number % len(photos)]
        rooms = [side - SIZE for side in photo.shape[1:]]
        y, x = (int(torch.randint(room, (), generator=generator)) for room in rooms)
        found.append(photo[:, y : y + SIZE, x : x + SIZE])
    return torch.stack(found)


@dataclass(frozen=True)
class Setting:
    """What all routes start from."""

    scored: nn.Module
    path: Path
    batches: list[np.ndarray]
    #: ID images, to measure ranges on
    known: list[np.ndarray]

    def beside(self, name: str) -> Path:
        """:return: path of a new file in the same folder"""
        return self.path.with_name(name)


def in_pytorch(setting: Setting) -> Answers:
    with torch.no_grad():
        found = [setting.scored(torch.from_numpy(batch)) for batch in setting.batches]
    logits, scores = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
    return {"logits": logits, "score": scores}


def in_onnxruntime(setting: Setting) -> Answers:
    return answers(setting.path, setting.batches)


def default_int8(setting: Setting) -> Answers:
    path = setting.beside("default_int8.onnx")
    quantize_static(setting.path, path, Batches(setting.known))
    return answers(path, setting.batches)


def default_float16(setting: Setting) -> Answers:
    path = setting.beside("default_float16.onnx")
    onnx.save(convert_float_to_float16(onnx.load(setting.path), keep_io_types=True), path)
    return answers(path, setting.batches)


def by_recipe(how: str) -> Callable[[Setting], Answers]:
    def route(setting: Setting) -> Answers:
        path = setting.beside(f"{how}.onnx")
        WAYS[how](setting.path, path, setting.known)
        return answers(path, setting.batches)

    return route


def in_openvino(saved: str | None) -> Callable[[Setting], Answers]:
    def route(setting: Setting) -> Answers:
        import openvino

        core, path = openvino.Core(), setting.path
        if saved is not None:
            path = setting.beside(f"{saved}.xml")
            openvino.save_model(core.read_model(setting.path), path, saved == "float16")
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(path, "CPU", options)
        found = [[part.copy() for part in compiled(b).values()] for b in setting.batches]
        logits, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return {"logits": logits, "score": scores}

    return route


def in_executorch(backend: str) -> Callable[[Setting], Answers]:
    def route(setting: Setting) -> Answers:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime

        inputs = [torch.from_numpy(batch).contiguous() for batch in setting.batches]
        program = torch.export.export(setting.scored, (inputs[0],))
        partitioner = [XnnpackPartitioner()] if backend == "XNNPACK" else []
        lowered = to_edge_transform_and_lower(program, partitioner=partitioner)
        # a method reads the memory of both while it runs
        content = lowered.to_executorch().buffer
        loaded = Runtime.get().load_program(content)
        method = loaded.load_method("forward")
        found = [[part.clone() for part in method.execute([x])] for x in inputs]
        logits, scores = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        return {"logits": logits, "score": scores}

    return route


ROUTES: dict[str, tuple[str, Callable[[Setting], Answers]]] = {
    "PyTorch": ("torch", in_pytorch),
    "ONNX Runtime, float32": ("onnxruntime", in_onnxruntime),
    "static int8, defaults": ("onnxruntime", default_int8),
    "static int8, recipe": ("onnxruntime", by_recipe("static-int8")),
    "dynamic int8, recipe": ("onnxruntime", by_recipe("dynamic-int8")),
    "float16, defaults": ("onnxruntime", default_float16),
    "float16, recipe": ("onnxruntime", by_recipe("float16")),
    "OpenVINO, of the ONNX file": ("openvino", in_openvino(None)),
    "OpenVINO, saved in float32 and loaded": ("openvino", in_openvino("float32")),
    "OpenVINO, saved in its float16 and loaded": ("openvino", in_openvino("float16")),
    "ExecuTorch, portable": ("executorch", in_executorch("portable")),
    "ExecuTorch, XNNPACK": ("executorch", in_executorch("XNNPACK")),
}


def row(name: str, setting: Setting, expected: Answers | None) -> tuple[str, Answers | None]:
    """A line of the table, and what the route answered."""
    package, route = ROUTES[name]
    try:
        start = f"| {name} | {package} {version(package)} "
    except PackageNotFoundError:
        return f"| {name} | {package}: not installed | | | | |", None
    try:
        found = route(setting)
    except Exception as error:  # what a release of others does not do is a result
        return f"{start}| {type(error).__name__} | | | |", None
    scores, half = found["score"].astype(np.float64), len(found["score"]) // 2
    if expected is None:
        expected = found
    same = (found["logits"].argmax(axis=1) == expected["logits"].argmax(axis=1)).mean()
    if not np.isfinite(scores).all():
        share = (~np.isfinite(scores)).mean()
        return f"{start}| not finite in {share:.0%} | | | {same:.1%} |", found
    area = roc_auc_score(np.arange(2 * half) >= half, scores)
    off = np.abs(scores - expected["score"]).max()
    ranked = rank_correlation(expected["score"], scores)
    return f"{start}| {off:.2g} | {ranked:.3f} | {area:.3f} | {same:.1%} |", found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--images", type=int, default=96, help="clean ones, and as many attacked")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=10).eval()
    known, clean = crops(128, seed=0), crops(arguments.images, seed=1)
    signs = (torch.rand(clean.shape, generator=torch.Generator().manual_seed(2)) - 0.5).sign()
    tested = torch.cat([clean, (clean + 8 / 255 * signs).clamp(0, 1)])
    detector = ViyogResidue(model).fit([known])
    lines = [
        "# A score after deployment",
        "",
        f"`python examples/benchmarks/deployment.py --images {arguments.images}`: ResNet-18 "
        f"(random weights) at {SIZE} px, "
        f"{arguments.images} clean crops of photographs and as many with random signs of 8/255, "
        f"batches of {BATCH}. Differences, rank correlation (Spearman) and equal answers are with "
        "PyTorch in float32; AUROC is of attacked against clean images.",
        "",
        "| route | version | largest difference of scores | rank correlation | AUROC | answers |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(model, detector, Path(folder) / "model.onnx", clean[:4])
        batches, ranges = (
            [part.numpy() for part in images.split(BATCH)] for images in (tested, known)
        )
        setting = Setting(with_score(model, detector), path, batches, ranges)
        expected = None
        for name in ROUTES:
            line, found = row(name, setting, expected)
            expected = found if expected is None else expected
            lines.append(line)
            print(line, flush=True)
            arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
