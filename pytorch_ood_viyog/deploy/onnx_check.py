"""
Compares an ONNX file with the module that it was made from.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .graphs import Graph

__all__ = ["RUNTIMES", "check_file", "far_inputs"]

#: from an array of inputs to arrays, in the order of the outputs
Answer = Callable[[Any], Sequence[Any]]

# OpenVINO was right on eight images and wrong from the ninth on
_MANY = 16

# far from ID, a log-odds is a sum of some 300 products of two arsinh of up to 10 each, so that
# what rounding moves in one of them counts ten times and more
_FAR = 30


def check_file(
    path: Path, graph: Graph, example: Tensor, classes: int, tolerance: float, runtime: str
) -> None:
    """
    Run the file on the example, in reverse order and more than 16 at once, on one input, and on
    inputs far from it (see :func:`far_inputs`), and compare.

    :param classes: number of classes that have names; 0 if they have none
    :param tolerance: largest difference, relative or absolute, that is taken for rounding
    :param runtime: one of :data:`RUNTIMES`
    :raises RuntimeError: if an output differs, with the largest difference
    :raises ValueError: if there are not as many logits as names of classes
    """
    answer = RUNTIMES[runtime](path)
    far = far_inputs(example), _FAR * tolerance
    many = torch.cat([example] * (_MANY // len(example) + 1)).flip(0)
    for x, allowed in (far, (many, tolerance), (example[:1], tolerance)):
        arrays = answer(x.cpu().numpy())
        found = {name: torch.as_tensor(a) for name, a in zip(graph.names, arrays, strict=True)}
        with torch.no_grad():
            expected = dict(zip(graph.names, (y.cpu() for y in graph(x)), strict=True))
        # what is concluded by comparisons jumps where scores differ in their last bits
        concluded = {name: y.cpu() for name, y in graph.concluded(found).items()}
        for name in graph.names:
            wanted = concluded.get(name, expected[name])
            _compare(f"{name!r} of the ONNX file in {runtime}", found[name], wanted, allowed)
    if classes and expected["logits"].shape[1:] != (classes,):
        raise ValueError(
            f"labels must name the classes of the logits, got {classes} names for logits of shape "
            f"{tuple(expected['logits'].shape)}."
        )


def far_inputs(example: Tensor) -> Tensor:
    """
    :param example: batch of model inputs
    :return: what tame inputs do not try: nothing but zeros, all black, all white, stripes of one
        pixel, noise over the range, and one of the example with random signs of 8/255 of the
        range on it, and with 255 times the range
    """
    low, high = example.amin(), example.amax()
    if low == high:
        high = low + 1
    one = example[:1]
    stripes = torch.where(torch.arange(one.shape[-1], device=one.device) % 2 == 0, low, high)
    noise = torch.rand(one.shape, generator=torch.Generator().manual_seed(0)).to(one)
    far = [
        torch.zeros_like(one),
        torch.full_like(one, float(low)),
        torch.full_like(one, float(high)),
        stripes.to(one).expand_as(one),
        low + noise * (high - low),
        one + 8 / 255 * (high - low) * (noise - 0.5).sign(),
        255 * one,
    ]
    return torch.cat(far)


def _onnxruntime(path: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    return lambda x: session.run(None, {given.name: x})


def _openvino(path: Path) -> Answer:
    import openvino

    # where the processor has bfloat16, that is the default
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", options)
    return lambda x: [value.copy() for value in compiled(x).values()]


#: packages that can run a file -> what makes it answer
RUNTIMES = {"onnxruntime": _onnxruntime, "openvino": _openvino}


def _compare(name: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    if found.shape == expected.shape and torch.allclose(
        found.double(), expected.double(), rtol=tolerance, atol=tolerance, equal_nan=True
    ):
        return
    what = f"has the shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    if found.shape == expected.shape:
        what = f"differs by up to {float((found.double() - expected.double()).abs().max()):.3g}"
    raise RuntimeError(
        f"Output {name} {what} from that of PyTorch. No file was written. If "
        f"differences of this size do not matter, pass a larger tolerance; else the model or the "
        f"detector computes something that the export takes for a constant."
    )
