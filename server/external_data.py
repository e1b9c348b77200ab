"""The files beside a model's own that hold weights of it: ONNX's external data."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.analysis.errors import AnalysisError
from convlens.analysis.model_file import read_model

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto


def external_files(path: Path) -> tuple[Path, ...]:
    """The files that the tensors of a model name, whether or not they are there.

    Args:
        path: of the model.

    Returns:
        In the order of their names; none for what cannot be read: whoever loads it will say why.
    """
    try:
        proto = read_model(path).proto
    except AnalysisError:
        return ()
    names = {
        os.fsdecode(entry.value)  # protobuf gives bytes of what is not UTF-8
        for tensor in _of_model(proto)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(path.parent / name for name in sorted(names))


def _of_model(proto: "ModelProto") -> Iterator["TensorProto"]:
    yield from _of_graph(proto.graph)
    for function in proto.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: "GraphProto") -> Iterator["TensorProto"]:
    yield from graph.initializer
    yield from _parts(graph.sparse_initializer)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: "Iterable[NodeProto]") -> Iterator["TensorProto"]:
    """The attributes of operators, and what is in the bodies of those that have some."""
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        if attribute.HasField("sparse_tensor"):
            yield from _parts([attribute.sparse_tensor])
        if attribute.HasField("g"):
            yield from _of_graph(attribute.g)
        yield from attribute.tensors
        yield from _parts(attribute.sparse_tensors)
        for body in attribute.graphs:
            yield from _of_graph(body)


def _parts(tensors: "Iterable[SparseTensorProto]") -> Iterator["TensorProto"]:
    for tensor in tensors:
        yield from (tensor.values, tensor.indices)
