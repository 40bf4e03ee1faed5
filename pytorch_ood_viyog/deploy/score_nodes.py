"""
Which nodes of an ONNX file belong to the score: what changes the precision of a model must leave
these as they are.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["mark_score_nodes", "score_nodes"]

_PREFIX = "viyog/"
# where the exporter tells which modules a node came from, the outermost first
_MODULES = "pkg.torch.onnx.class_hierarchy"
_OURS = f"'{__name__.partition('.')[0]}."
_READERS = (f"{_OURS}deploy.stand_ins.ScoredLayer'", f"{_OURS}deploy.second_look_graph._Maps")


def score_nodes(path: str | Path) -> list[str]:
    """
    Names of the nodes that judge, and that prepare inputs for it. A score is read from differences
    far below a grey level: quantisers and converters to float16 must leave these in float32.

    .. code-block:: python

        names = score_nodes("model.onnx")
        quantize_static("model.onnx", "int8.onnx", reader, nodes_to_exclude=names)

    :param path: file that :func:`~pytorch_ood_viyog.deploy.onnx_file.export_onnx` wrote
    :return: names, which begin with ``viyog/``
    :raises ValueError: if no node has such a name: the file is from elsewhere or from an older
        version, or its nodes were fused since
    """
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    found = [node.name for node in nodes if node.name.startswith(_PREFIX)]
    if not found:
        raise ValueError(
            f"No node of {path} has a name that begins with {_PREFIX!r}. Take the file that "
            f"export_onnx of this version wrote, before any optimiser has fused its nodes."
        )
    return found


def mark_score_nodes(graph: Any) -> None:
    """
    :param graph: graph of ``onnx_ir`` whose first output are the logits; what only the others
        need gets its prefix, but for the layers of a model that is asked again, and with it what
        leads up to the first layer's readings
    """
    answering = _ancestors([graph.outputs[0].producer()])
    own = [node for node in graph if node not in answering and _ran_in(node, _OURS)]
    leading = _ancestors(node for node in own if _ran_in(node, _READERS, unknown=False))
    for node in leading.union(own):
        node.name = _PREFIX + (node.name or node.outputs[0].name)


def _ancestors(nodes: Iterable[Any]) -> set[Any]:
    """The nodes and all that they take."""
    found, waiting = set(), [node for node in nodes if node is not None]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            producers = [value.producer() for value in node.inputs if value is not None]
            waiting += [producer for producer in producers if producer is not None]
    return found


def _ran_in(node: Any, kind: str | tuple[str, ...], unknown: bool = True) -> bool:
    """Whether the innermost module that a node came from is of a kind."""
    modules = node.metadata_props.get(_MODULES, "").split(", ")[:-1]
    return modules[-1].lstrip("[").startswith(kind) if modules else unknown
