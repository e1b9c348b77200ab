"""onnx's own shape inference: on a whole model, and on one operator at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convlens.analysis.graph import Graph, Node, StoredTensor
from convlens.analysis.graph_reader import ONNX_DOMAINS, dtype_name, read_tensor
from convlens.analysis.hazards import (
    find_hazard,
    is_hazard,
    may_have_negative_dims,
    mend_dims,
)
from convlens.analysis.onnx_parts import ModelProto, ValueInfoProto, compiled_inference
from convlens.analysis.shape import Tensor
from convlens.analysis.symbolic import Expression
from convlens.analysis.values import MAX_ENTRIES, Values

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto, TypeProto


# What an exception of the compiled code becomes: of a list's bounds, of its length, of memory.
_NATIVE_ERRORS = (LookupError, MemoryError, RuntimeError, ValueError)


def infer_model(proto: ModelProto) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """What onnx infers of the tensors outside bodies, and what a reader must be told of it."""
    reason: str | None = None
    try:
        serialized = proto.SerializeToString()
        if may_have_negative_dims(serialized):
            proto = ModelProto.FromString(serialized)
            mend_dims(proto.graph)
            serialized = proto.SerializeToString()
        hazard = find_hazard(proto.graph)
        if hazard is not None:
            reason = f"it would not survive {hazard}"
        else:
            # Without its folding of values: it would write out a Range of any length.
            found = compiled_inference.infer_shapes(serialized, False, False, False)
            proto = ModelProto.FromString(found)
    except (compiled_inference.InferenceError, *_NATIVE_ERRORS) as error:
        reason = " ".join(str(error).split())
    values = (*proto.graph.input, *proto.graph.output, *proto.graph.value_info)
    tensors = {tensor.name: tensor for tensor in map(read_tensor, values)}
    if reason is None:
        return tensors, ()
    note = f"onnx's shape inference failed, only declared shapes are known: {reason}"
    return tensors, (note,)


@dataclass(frozen=True)
class OnnxInference:
    """Asks onnx for the outputs of one node.

    Attributes:
        opset: the version of ONNX's own operators.
    """

    opset: int

    @staticmethod
    def of(proto: ModelProto) -> "OnnxInference":
        """For the operators of this model."""
        versions = [entry.version for entry in proto.opset_import if entry.domain in ONNX_DOMAINS]
        return OnnxInference(max(versions, default=1))

    def __call__(
        self, node: Node, inputs: Sequence[Tensor], look_up: Callable[[str], Values | None]
    ) -> tuple[Tensor, ...]:
        """The node's outputs as far as onnx can tell them; none where it cannot."""
        if "::" in node.op_type or node.bodies:
            return ()
        from onnx import checker, defs, shape_inference

        if not defs.has(node.op_type):
            return ()
        types = {
            tensor.name: type_proto
            for tensor in inputs
            if tensor.name and (type_proto := _type_proto(tensor)) is not None
        }
        constants = {
            tensor.name: constant
            for tensor in inputs
            if (constant := _constant(look_up(tensor.name), tensor.dtype)) is not None
        }
        if len(types) < len({tensor.name for tensor in inputs if tensor.name}):
            return ()
        try:
            proto = _node_proto(node)
            if is_hazard(proto):
                return ()
            schema = defs.get_schema(node.op_type, self.opset)
            found = shape_inference.infer_node_outputs(schema, proto, types, constants)
        except (
            checker.ValidationError,
            defs.SchemaError,
            shape_inference.InferenceError,
            TypeError,
            *_NATIVE_ERRORS,
        ):
            return ()
        return tuple(_tensor(name, found.get(name)) for name in node.outputs)


def _type_proto(tensor: Tensor) -> "TypeProto | None":
    from onnx import TensorProto, helper

    names = {dtype_name(number): number for number in TensorProto.DataType.values()}
    if not tensor.dtype or tensor.dtype not in names:
        return None
    return helper.make_tensor_type_proto(names[tensor.dtype], tensor.shape)


def _constant(values: Values | None, dtype: str) -> "TensorProto | None":
    import numpy as np
    from onnx import numpy_helper

    if values is None or values.size > MAX_ENTRIES:
        return None
    if any(isinstance(entry, Expression) for entry in values.ravel()):
        return None
    try:
        return numpy_helper.from_array(
            np.array(values.ravel(), np.dtype(dtype)).reshape(values.shape)
        )
    except (TypeError, ValueError, OverflowError):
        return None


def _node_proto(node: Node) -> "NodeProto":
    from onnx import helper

    attributes = {name: _plain(value) for name, value in node.attributes.items()}
    return helper.make_node(
        node.op_type,
        node.inputs,
        node.outputs,
        **{name: value for name, value in attributes.items() if value is not None},
    )


def _plain(value: Any) -> Any:
    if isinstance(value, StoredTensor):
        return value.proto
    if isinstance(value, Graph):
        return None
    return list(value) if isinstance(value, tuple) else value


def _tensor(name: str, found: "TypeProto | None") -> Tensor:
    if found is None:
        return Tensor(name, "", None)
    value = ValueInfoProto(name=name)
    value.type.CopyFrom(found)
    return read_tensor(value)
