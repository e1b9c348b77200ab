"""From an ONNX GraphProto to a Graph."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from convlens.analysis.graph import Graph, Node, StoredTensor
from convlens.analysis.graph_order import in_order
from convlens.analysis.onnx_parts import AttributeProto, TensorProto, TypeProto
from convlens.analysis.shape import Dim, Shape, Tensor

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, SparseTensorProto, ValueInfoProto

# Both name the operators of the ONNX specification.
ONNX_DOMAINS = ("", "ai.onnx")

# The exporter notes on a node which rewriting rules made it.
_REWRITE_RULES = "pkg.onnxscript.rewriter.rule_name"
# The modules that a node came from, outermost first, and then PyTorch's operator: a list as text.
_NAME_SCOPES = "pkg.torch.onnx.name_scopes"
# A longer type or attribute, as of a hostile file, is not remembered.
_MAX_REPEATED_BYTES = 256
# What the exporter calls the scope of a node that came from no module.
_NO_MODULE = "_empty_nn_module_stack"
_QUOTED = re.compile("'([^']*)'")
_FOLDED_INTO = frozenset({"Conv", "ConvTranspose", "Gemm"})
# The fields in which an attribute holds its value, by its type; a reference has none.
_ATTRIBUTE_FIELDS = {
    AttributeProto.FLOAT: "f",
    AttributeProto.FLOATS: "floats",
    AttributeProto.GRAPHS: "graphs",
    AttributeProto.INT: "i",
    AttributeProto.INTS: "ints",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors",
    AttributeProto.STRING: "s",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
    AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.TYPE_PROTOS: "type_protos",
}
# The types of the attributes on which shapes, costs and receptive fields depend.
_ATTRIBUTE_TYPES: Mapping[str, type] = {
    **dict.fromkeys(
        (
            "axes", "dilations", "ends", "kernel_shape", "output_padding", "output_shape", "pads",
            "perm", "scales", "scan_input_axes", "scan_output_axes", "split", "starts", "strides",
        ),
        tuple,
    ),
    **dict.fromkeys(
        (
            "allowzero", "axis", "batch_dims", "blocksize", "ceil_mode", "group", "keepdims",
            "kv_num_heads", "noop_with_empty_axes", "num_outputs", "num_scan_inputs",
            "q_num_heads", "size", "to", "transA", "transB",
        ),
        int,
    ),
    **dict.fromkeys(("auto_pad", "equation", "mode"), str),
}  # fmt: skip


def read_graph(proto: "GraphProto") -> Graph:
    """Turn a GraphProto into a Graph; shapes are those that the file declares.

    Raises:
        GraphError: its operators wait for each other in a circle.
    """
    initializers = [_stored(tensor, text(tensor.name)) for tensor in proto.initializer]
    initializers += [
        _stored_sparse(sparse, text(sparse.values.name)) for sparse in proto.sparse_initializer
    ]
    stored = {tensor.name: tensor for tensor in initializers}
    nodes: list[Node] = []
    for node in proto.node:
        if node.op_type == "Constant" and node.domain in ONNX_DOMAINS and len(node.output) == 1:
            constant = _constant(node)
            stored[constant.name] = constant
        else:
            nodes.append(_node(len(nodes), node))
    return Graph(
        inputs=tuple(
            tensor for tensor in map(read_tensor, proto.input) if tensor.name not in stored
        ),
        outputs=tuple(read_tensor(value) for value in proto.output),
        nodes=in_order(nodes),
        stored=stored,
    )


def read_tensor(value: "ValueInfoProto") -> Tensor:
    """Turn a ValueInfoProto into a Tensor; a dimension without value and name is called "?"."""
    serialized = value.type.SerializeToString()
    read = _read_type if len(serialized) <= _MAX_REPEATED_BYTES else _read_type.__wrapped__
    return Tensor(text(value.name), *read(serialized))


# A pure function. Networks repeat their blocks, so that few types are different; and writing a
# message is one call into protobuf, where reading it takes several for each dimension.
@lru_cache(maxsize=4096)
def _read_type(serialized: bytes) -> tuple[str, Shape | None]:
    """The dtype and the shape that a TypeProto states."""
    tensor_type = TypeProto.FromString(serialized).tensor_type
    shape: Shape | None = None
    if tensor_type.HasField("shape"):
        shape = tuple(map(_dim, tensor_type.shape.dim))
    return dtype_name(tensor_type.elem_type), shape


@lru_cache(maxsize=64)
def dtype_name(data_type: int) -> str:
    """The name of a TensorProto.DataType: "float32" for FLOAT; empty where there is none."""
    if data_type == TensorProto.UNDEFINED or data_type not in TensorProto.DataType.values():
        return ""
    name = TensorProto.DataType.Name(data_type).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def text(value: str | bytes) -> str:
    """A text of the file; protobuf hands over bytes where it is not UTF-8."""
    return value if isinstance(value, str) else value.decode("utf-8", errors="replace")


def _dim(dim: Any) -> Dim:
    size: int = dim.dim_value
    if size > 0 or (size == 0 and dim.HasField("dim_value")):
        return size
    return text(dim.dim_param) or "?"


def _node(index: int, node: "NodeProto") -> Node:
    metadata = {text(entry.key): text(entry.value) for entry in node.metadata_props}
    rules = metadata.get(_REWRITE_RULES)
    scopes = _QUOTED.findall(metadata[_NAME_SCOPES]) if _NAME_SCOPES in metadata else ()
    domain, op_type = text(node.domain), text(node.op_type)
    if domain not in ONNX_DOMAINS:
        op_type = f"{domain}::{op_type}"
    # The product of a folding carries the operator of the BatchNormalization.
    folded = op_type in _FOLDED_INTO and "batch_norm" in "".join(scopes[-1:])
    outputs = tuple(map(text, node.output[:]))
    attributes = _attributes(node)
    return Node(
        index=index,
        name=text(node.name) or next(iter(outputs), ""),
        op_type=op_type,
        inputs=tuple(map(text, node.input[:])),
        outputs=outputs,
        attributes=attributes,
        bodies=tuple([value for value in attributes.values() if isinstance(value, Graph)]),
        scope=_weight_scope(node) if folded else _scope(scopes),
        folded_batch_norm=folded,
        rewrites=tuple(filter(None, map(str.strip, rules.split(",")))) if rules else (),
    )


def _scope(scopes: Sequence[str]) -> str | None:
    """The innermost of the modules, "features.0" of ["", "features", "features.0", "conv2d"]."""
    module = scopes[-2] if len(scopes) > 1 else ""
    return None if module.startswith(_NO_MODULE) else module or None


def _weight_scope(node: "NodeProto") -> str | None:
    """The module of the weight: after folding, the node itself carries the BatchNormalization's."""
    weight = text(node.input[1]) if len(node.input) > 1 else ""
    module, _, name = weight.rpartition(".")
    return module if module and name == "weight" else None


def _attributes(node: "NodeProto") -> dict[str, Any]:
    """The attributes by name; one of another type than its name has in ONNX is left out."""
    attributes = [_attribute(attribute) for attribute in node.attribute]
    return {
        name: value
        for name, value in attributes
        if isinstance(value, _ATTRIBUTE_TYPES.get(name, object))
    }


def _attribute(attribute: AttributeProto) -> tuple[str, Any]:
    """The name and the value."""
    attribute_type = attribute.type
    if attribute_type == AttributeProto.TENSOR:
        name = text(attribute.name)
        return name, _stored(attribute.t, name)
    if attribute_type == AttributeProto.GRAPH:
        return text(attribute.name), read_graph(attribute.g)
    serialized = attribute.SerializeToString()
    read = _plain if len(serialized) <= _MAX_REPEATED_BYTES else _plain.__wrapped__
    return read(serialized)


@lru_cache(maxsize=4096)  # as `_read_type`
def _plain(serialized: bytes) -> tuple[str, Any]:
    """The name and the value of an attribute that holds no tensor and no graph."""
    attribute = AttributeProto.FromString(serialized)
    return text(attribute.name), _plain_value(attribute)


def _plain_value(attribute: AttributeProto) -> Any:
    field = _ATTRIBUTE_FIELDS.get(attribute.type)
    if field is None or attribute.ref_attr_name:
        return None
    value = getattr(attribute, field)
    if isinstance(value, str | bytes):
        return text(value)
    if isinstance(value, Iterable):
        return tuple(text(entry) if isinstance(entry, bytes) else entry for entry in value)
    return value


def _constant(node: "NodeProto") -> StoredTensor:
    """The value of a Constant, whichever of its attributes holds it."""
    name = text(node.output[0])
    for attribute in node.attribute:
        if attribute.name == "value":
            return _stored(attribute.t, name)
        if attribute.name == "sparse_value":
            return _stored_sparse(attribute.sparse_tensor, name)
        numbers = _numbers(attribute)
        if numbers is not None:
            return _stored(numbers, name)
    return StoredTensor(name, "", ())


def _numbers(attribute: AttributeProto) -> TensorProto | None:
    """The tensor that an attribute of plain numbers stands for; None for another attribute."""
    match text(attribute.name):
        case "value_float":
            return TensorProto(data_type=TensorProto.FLOAT, float_data=[attribute.f])
        case "value_int":
            return TensorProto(data_type=TensorProto.INT64, int64_data=[attribute.i])
        case "value_floats":
            values = attribute.floats
            return TensorProto(data_type=TensorProto.FLOAT, dims=[len(values)], float_data=values)
        case "value_ints":
            numbers = attribute.ints
            return TensorProto(data_type=TensorProto.INT64, dims=[len(numbers)], int64_data=numbers)
    return None


def _stored(tensor: TensorProto, name: str) -> StoredTensor:
    return StoredTensor(name, dtype_name(tensor.data_type), _stored_shape(tensor.dims), tensor)


def _stored_sparse(tensor: "SparseTensorProto", name: str) -> StoredTensor:
    shape = _stored_shape(tensor.dims)
    count = min(prod(_stored_shape(tensor.values.dims)), prod(shape))
    return StoredTensor(name, dtype_name(tensor.values.data_type), shape, sparse_count=count)


def _stored_shape(dims: Iterable[int]) -> tuple[int, ...]:
    return tuple([max(dim, 0) for dim in dims])
