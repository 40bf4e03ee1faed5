"""ONNX files of large graphs in less time, and what they answer in ONNX Runtime."""

import contextlib
import functools
import json

import pytest
import torch


@contextlib.contextmanager
def unoptimised():
    """
    The exporter leaves graphs as they are, in half of the time; ONNX Runtime optimises them when
    it loads them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", functools.partial(torch.onnx.export, optimize=False))
        yield


def answer(path, x):
    """Output -> array, and the metadata, of a file that knows only its own folder."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["input"]
    names = [each.name for each in session.get_outputs()]
    found = session.run(None, {"input": x.numpy()})
    metadata = session.get_modelmeta().custom_metadata_map
    tensors = {name: torch.as_tensor(y) for name, y in zip(names, found, strict=True)}
    return tensors, {name: json.loads(text) for name, text in metadata.items()}
