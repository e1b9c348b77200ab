"""Hazards: what makes onnx's shape inference, or onnxruntime, not fail but crash.

They read beyond the end of a list, follow an input that is not there, or make room for as many
outputs as an attribute asks for, and the whole process goes down with it. So operators that do so
are found, and dimensions mended, before either is called. Each was seen to crash onnx 1.23, or
onnxruntime 1.32 while it opened a file or ran it on zeros; what either refuses by itself is left
to it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from convlens.analysis.functions import inline_functions
from convlens.analysis.onnx_parts import ModelProto, NodeProto

if TYPE_CHECKING:
    from onnx import GraphProto

IsHazard = Callable[[NodeProto], bool]

# How a negative dimension of a stored tensor or a declared shape is serialised: as field 1, in ten
# bytes. Other bytes may look the same.
_NEGATIVE_DIM = re.compile(rb"\x08[\x80-\xff]{9}\x01")
_INT32 = range(-(2**31), 2**31)


def find_hazard(graph: "GraphProto") -> str | None:
    """What in the graph or its bodies would crash onnx's shape inference; None where nothing."""
    return next(_hazards(graph, _CRASHING), None)


def find_runtime_hazard(proto: ModelProto) -> str | None:
    """What in a model would crash onnxruntime, which opens it or runs it; None where nothing.

    Raises:
        GraphError: its functions call each other in a circle.
    """
    return next(_hazards(inline_functions(proto).graph, _CRASHING_THE_RUNTIME), None)


def is_hazard(node: NodeProto) -> bool:
    """Whether the operator would crash onnx's shape inference by itself."""
    crashes = _CRASHING.get(node.op_type)
    return crashes is not None and crashes(node)


def _hazards(graph: "GraphProto", crashing: Mapping[str, IsHazard]) -> Iterator[str]:
    for node in graph.node:
        op_type = node.op_type
        if op_type in _WITH_BODIES:
            for body in _bodies(node):
                yield from _hazards(body, crashing)
        elif op_type in crashing and crashing[op_type](node):
            yield f"{op_type} {node.name or ', '.join(node.output)}"


def _lacks_its_input(node: NodeProto) -> bool:
    return not node.input or not node.input[0]


def _gathers_from_outside(node: NodeProto) -> bool:
    return _integer(node, "batch_dims", 0) not in _INT32[2**31 :]


def _has_no_such_axis(node: NodeProto) -> bool:
    return _integer(node, "axis", -1) not in _INT32


def _asks_for_too_many_parts(node: NodeProto) -> bool:
    return _integer(node, "num_outputs", 0) > len(node.output)


def _lacks_a_later_input(node: NodeProto) -> bool:
    return not all(node.input[1:])


def _draws_from_no_width(node: NodeProto) -> bool:
    return not _float(node, "scale", 1.0) > 0


def _draws_from_no_range(node: NodeProto) -> bool:
    return not _float(node, "low", 0.0) <= _float(node, "high", 1.0)


_CRASHING: Mapping[str, IsHazard] = {
    "EyeLike": _lacks_its_input,
    "GatherND": _gathers_from_outside,
    "LayerNormalization": _has_no_such_axis,
    "RegexFullMatch": _lacks_its_input,
    "Split": _asks_for_too_many_parts,
}

_CRASHING_THE_RUNTIME: Mapping[str, IsHazard] = {
    "GatherND": _gathers_from_outside,
    "Max": _lacks_a_later_input,
    "Mean": _lacks_a_later_input,
    "Min": _lacks_a_later_input,
    "RandomNormal": _draws_from_no_width,
    "RandomNormalLike": _draws_from_no_width,
    "RandomUniform": _draws_from_no_range,
    "RandomUniformLike": _draws_from_no_range,
    "Sum": _lacks_a_later_input,
}

_WITH_BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def _integer(node: NodeProto, name: str, default: int) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def _float(node: NodeProto, name: str, default: float) -> float:
    return next((entry.f for entry in node.attribute if entry.name == name), default)


def _bodies(node: NodeProto) -> Iterator["GraphProto"]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def may_have_negative_dims(serialized: bytes) -> bool:
    """Whether a serialised model may have a negative dimension; it is rarely wrong."""
    return _NEGATIVE_DIM.search(serialized) is not None


def mend_dims(graph: "GraphProto") -> None:
    """Make dimensions that are negative unknown, as exporters mean them that write -1."""
    for tensor in (*graph.initializer, *(a.t for node in graph.node for a in node.attribute)):
        if any(dim < 0 for dim in tensor.dims):
            tensor.dims[:] = [max(dim, 0) for dim in tensor.dims]
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.Clear()
    for node in graph.node:
        for body in _bodies(node):
            mend_dims(body)
