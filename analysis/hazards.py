"""Hazards: what makes onnx's compiled shape inference not fail but crash.

It reads beyond the end of a list, or makes room for as many outputs as an attribute asks for, and
the whole process goes down with it. onnxruntime holds the same code. So operators that do so are
found, and dimensions mended, before either is called. Each was seen to crash onnx 1.23.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from convlens.analysis.onnx_parts import NodeProto

if TYPE_CHECKING:
    from onnx import GraphProto

# How a negative dimension of a stored tensor or a declared shape is serialised: as field 1, in ten
# bytes. Other bytes may look the same.
_NEGATIVE_DIM = re.compile(rb"\x08[\x80-\xff]{9}\x01")
_INT32 = range(-(2**31), 2**31)


def find_hazard(graph: "GraphProto") -> str | None:
    """What in the graph or its bodies would crash onnx's shape inference; None where nothing."""
    for node in graph.node:
        op_type = node.op_type
        if op_type in _WITH_BODIES:
            inside = next(filter(None, map(find_hazard, _bodies(node))), None)
            if inside is not None:
                return inside
        elif op_type in _CRASHING and is_hazard(node):
            return f"{op_type} {node.name or ', '.join(node.output)}"
    return None


def is_hazard(node: NodeProto) -> bool:
    """Whether the operator would crash onnx's shape inference by itself."""
    crashes = _CRASHING.get(node.op_type)
    return crashes is not None and crashes(node)


def _lacks_its_input(node: NodeProto) -> bool:
    return not node.input or not node.input[0]


def _gathers_from_outside(node: NodeProto) -> bool:
    return _integer(node, "batch_dims", 0) not in _INT32[2**31 :]


def _has_no_such_axis(node: NodeProto) -> bool:
    return _integer(node, "axis", -1) not in _INT32


def _asks_for_too_many_parts(node: NodeProto) -> bool:
    return _integer(node, "num_outputs", 0) > len(node.output)


_CRASHING: Mapping[str, Callable[[NodeProto], bool]] = {
    "EyeLike": _lacks_its_input,
    "GatherND": _gathers_from_outside,
    "LayerNormalization": _has_no_such_axis,
    "RegexFullMatch": _lacks_its_input,
    "Split": _asks_for_too_many_parts,
}


_WITH_BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def _integer(node: NodeProto, name: str, default: int) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


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
