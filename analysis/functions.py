"""Local functions: each call replaced by the operators of the function's body."""

from typing import TYPE_CHECKING

from convlens.analysis.errors import GraphError
from convlens.analysis.graph_reader import text

if TYPE_CHECKING:
    from onnx import ModelProto

# Functions that call functions grow exponentially in hostile files; real networks stay far below.
_MAX_NODES = 200_000
_MAX_FUNCTION_DEPTH = 100


def inline_functions(proto: "ModelProto") -> "ModelProto":
    """The model without local functions.

    Raises:
        GraphError: a function calls itself, or there are too many operators.
    """
    if not proto.functions:
        return proto
    from onnx.checker import ValidationError
    from onnx.inliner import inline_local_functions

    if _inlined_nodes(proto) > _MAX_NODES:
        raise GraphError(f"with its local functions it has more than {_MAX_NODES:,} operators")
    try:
        return inline_local_functions(proto)
    except (ValidationError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise GraphError(f"its local functions cannot be inlined: {reason}") from error


def _inlined_nodes(proto: "ModelProto") -> int:
    """How many operators the graph has when all calls are replaced; calls in bodies not counted."""
    called = {(text(f.domain), text(f.name)): f.node for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_calls: list[tuple[str, str]] = []

    def size(key: tuple[str, str]) -> int:
        if key not in called:
            return 1
        if key in open_calls:
            raise GraphError(f"the local function {key[1]!r} calls itself")
        if len(open_calls) > _MAX_FUNCTION_DEPTH:
            raise GraphError(f"local functions call each other {_MAX_FUNCTION_DEPTH} deep")
        if key not in sizes:
            open_calls.append(key)
            sizes[key] = sum(size((text(node.domain), text(node.op_type))) for node in called[key])
            open_calls.pop()
        return sizes[key]

    return sum(size((text(node.domain), text(node.op_type))) for node in proto.graph.node)
