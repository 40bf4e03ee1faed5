"""
A model with its detectors, or a whole Triage, as one ONNX file that needs no PyTorch. Needs the
extra ``onnx``.
"""

import importlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ..detectors.base import FirstLayerDetector
from ..layer.checks import check_count, check_input, check_number
from ..layer.manners import same_random_state, unwrap
from ..looks.second_look import SecondLook
from ..triage.triage import Triage
from .graphs import Graph, PickLogits, ScoresGraph
from .onnx_check import RUNTIMES, check_file
from .score_nodes import mark_score_nodes
from .second_look_graph import SecondLookGraph
from .triage_graph import TriageGraph

__all__ = ["export_onnx"]

_INPUT = "input"


def export_onnx(
    model: Module,
    detector: FirstLayerDetector | Mapping[str, FirstLayerDetector] | SecondLook | Triage,
    path: str | Path,
    example: Tensor,
    *,
    layer: str | Module | None = None,
    logits: PickLogits | None = None,
    thresholds: float | Mapping[str, float] | None = None,
    labels: Sequence[str] | None = None,
    tolerance: float = 1e-3,
    runtime: str = "onnxruntime",
    opset: int | None = None,
) -> Path:
    """
    Write one ONNX file with the model and what judges its inputs. It takes ``input`` with any
    batch size and gives, each with first dimension :math:`B`,

    - ``logits``;
    - for a detector ``score``, for several ``score_NAME``: larger for ADV;
    - for a :class:`~pytorch_ood_viyog.looks.second_look.SecondLook` with the purifier ``"maps"``
      also ``second_logits``, the answer without the residue;
    - for a :class:`~pytorch_ood_viyog.triage.triage.Triage` ``verdict`` (int64, the values of
      :class:`~pytorch_ood_viyog.triage.populations.verdict.Verdict`), ``log_odds`` of ID, OOD,
      ADV and NOISY, and the conformal p-values ``p_OOD``, ``p_ADV`` and ``p_NOISY``.

    Scores of inputs with NaN or inf are NaN, and the verdict is OOD. The file's metadata are
    JSON: ``labels``, ``thresholds``, ``detectors``, ``package``, of a triage also ``verdicts`` and
    ``evidence``.

    The new file is run on the example, in batches of several sizes, and on black, white, striped,
    noisy, attacked and far too bright images, in ONNX Runtime and in ``runtime``; it takes the
    place of an older one only if all agree with PyTorch. What makes it smaller afterwards leaves
    :func:`~pytorch_ood_viyog.deploy.score_nodes.score_nodes` as they are.

    .. rubric:: Examples

    .. code-block:: python

        export_onnx(model, detector, "model.onnx", images[:4], thresholds=3.1)
        triage = Triage(model).fit(train_loader, calibration_loader)
        export_onnx(model, triage, "triage.onnx", images[:4])

    :param model: model, also wrapped; it is not touched
    :param detector: fitted detector, several by name, or a fitted second look or triage of this
        model
    :param path: file to write; weights beyond 2 GB go into a second file next to it
    :param example: batch of inputs as the model gets them in use, best several and different
        ones, first dimension :math:`B`
    :param layer: layer to read; default is the layer that the detector reads
    :param logits: picks the logits out of the model's output; default takes the output itself
    :param thresholds: score above which a detector raises an alarm, one number, or by the names of
        several detectors
    :param labels: names of the model's classes
    :param tolerance: largest difference between the two, relative or absolute, that is taken for
        rounding
    :param runtime: where the file is to run, ``"onnxruntime"`` or ``"openvino"``
    :param opset: version of ONNX's operators that the file is to use; default is PyTorch's choice
    :return: the path
    :raises ImportError: if onnx, onnxscript, onnxruntime or the runtime are not installed
    :raises TypeError: if an argument has the wrong type, or a detector does not go into
        a graph
    :raises RequiresFittingException: if the detector is not fitted
    :raises ValueError: if arguments do not fit together
    :raises RuntimeError: if a runtime gives other results, the opset lacks an operator, or the
        model can be exported for one size of batches only; no file is written then
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime must be one of {[*RUNTIMES]}, got {runtime!r}.")
    _require(runtime)
    tolerance = check_number("tolerance", tolerance, low=0.0)
    opset = None if opset is None else check_count("opset", opset, low=1)
    graph = _graph(model, detector, layer=layer, logits=logits, thresholds=thresholds)
    metadata = dict(graph.metadata) | {
        "package": f"pytorch-ood-viyog {version('pytorch-ood-viyog')}"
    }
    if labels is not None:
        metadata["labels"] = [str(label) for label in labels]
    # other memory formats would be taken for the model's
    example = _on_device_of(model, check_input(example)).contiguous()
    if not bool(example.isfinite().all()):
        raise ValueError(
            "example must be finite, got NaN or inf in it, by which nothing can be compared. Give "
            "inputs as the model gets them in use."
        )
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"path must be in a folder that exists, got {str(path)!r}.")
    with same_random_state(model), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        size = _write(graph, written, example, metadata, opset)
        _check_any_batch(size, type(unwrap(model)).__name__)
        for each in dict.fromkeys(("onnxruntime", runtime)):
            check_file(written, graph, example, len(labels or []), tolerance, each)
        for file in Path(folder).iterdir():
            os.replace(file, path.parent / file.name)
    return path


def _graph(
    model: Module,
    detector: FirstLayerDetector | Mapping[str, FirstLayerDetector] | SecondLook | Triage,
    **options: Any,
) -> Graph:
    if not isinstance(detector, (SecondLook, Triage)):
        return ScoresGraph(model, detector, **options).eval()
    if isinstance(detector, SecondLook):
        limit = options.pop("thresholds")
        _check_own("second look", model, detector.model, options)
        graph = SecondLookGraph(detector)
        if limit is not None:
            graph.metadata["thresholds"]["score"] = check_number("thresholds", limit)
        return graph.eval()
    _check_own("triage", model, detector.pipeline.model, options)
    return TriageGraph(detector).eval()


def _check_own(kind: str, model: Module, own: Module | None, options: Mapping[str, Any]) -> None:
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(f"A {kind} has its own {' and '.join(given)}; leave the argument out.")
    if own is None or unwrap(model) is not unwrap(own):
        raise ValueError(f"model must be the model of the {kind}, got another one.")


def _write(
    graph: Graph, path: Path, example: Tensor, metadata: Mapping[str, Any], opset: int | None
) -> Any:
    # a batch of one would be taken for a constant
    example = torch.cat([example, example]) if len(example) == 1 else example
    with torch.no_grad():
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[_INPUT],
            output_names=list(graph.names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=opset,
        )
    assert program is not None
    found = program.model.opset_imports[""]
    if opset not in (None, found):  # PyTorch only logs that it could not
        raise RuntimeError(
            f"The graph cannot be written with the operators of opset {opset}, only of {found}. "
            f"No file was written. Ask for another opset, or leave it to PyTorch."
        )
    for name, value in metadata.items():
        program.model.metadata_props[name] = json.dumps(value)
    mark_score_nodes(program.model.graph)
    program.save(path)
    shape = program.model.graph.inputs[0].shape
    return None if shape is None else shape[0]


def _check_any_batch(size: Any, model: str) -> None:
    if isinstance(size, int):
        raise RuntimeError(
            f"{model} can be exported for batches of {size} only: how it computes depends on the "
            f"number of samples, as in a model that works through its batch in parts "
            f"(x.split(8)) or that asks for len(x), which the export takes for a constant "
            f"(x.shape[0] is not). No file was written. Export the part of the model that takes "
            f"whole batches, and fit the detector to that."
        )


def _on_device_of(model: Module, x: Tensor) -> Tensor:
    parameter = next(model.parameters(), None)
    return x if parameter is None else x.to(parameter.device)


def _require(runtime: str) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime", runtime):
        try:
            importlib.import_module(name)
        except ImportError as error:
            package = "openvino" if name == "openvino" else "'pytorch-ood-viyog[onnx]'"
            raise ImportError(f"export_onnx needs {name}: pip install {package}.") from error
