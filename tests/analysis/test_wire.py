import onnx
import pytest
from google.protobuf.message import Message
from onnx import TensorProto, helper

from convlens.analysis import wire
from convlens.analysis.errors import WireError
from tests.analysis.graphs import weight


def test_the_field_numbers_are_those_of_onnx() -> None:
    messages: dict[str, type[Message]] = {
        "model": onnx.ModelProto,
        "graph": onnx.GraphProto,
        "function": onnx.FunctionProto,
        "node": onnx.NodeProto,
        "attribute": onnx.AttributeProto,
        "tensor": onnx.TensorProto,
        "sparse_tensor": onnx.SparseTensorProto,
    }
    for message, children in wire.CHILDREN.items():
        fields = messages[message].DESCRIPTOR.fields_by_number
        for number, child in children.items():
            assert fields[number].message_type is messages[child].DESCRIPTOR


def test_the_payload_fields_are_those_of_onnx() -> None:
    fields = onnx.TensorProto.DESCRIPTOR.fields_by_number
    payloads = {number for number, field in fields.items() if field.name.endswith("_data")}
    assert payloads - {onnx.TensorProto.EXTERNAL_DATA_FIELD_NUMBER} == wire.TENSOR_PAYLOADS


@pytest.mark.parametrize("raw", [True, False])
def test_stripping_drops_a_large_payload_and_keeps_the_rest(raw: bool) -> None:
    data = weight(64, 64)
    values = data.tobytes() if raw else data.ravel()
    tensor = helper.make_tensor("w", TensorProto.FLOAT, data.shape, values, raw=raw)
    graph = helper.make_graph([], "graph", [], [], [tensor])
    model = helper.make_model(graph, producer_name="test")
    encoded = model.SerializeToString()

    stripped = wire.strip_payloads(encoded, "model", 0, len(encoded))

    assert len(stripped) < 100 < len(encoded)
    decoded = onnx.ModelProto.FromString(stripped)
    for field in ("raw_data", "float_data"):
        tensor.ClearField(field)
        model.graph.initializer[0].ClearField(field)
    assert decoded == model


def test_stripping_reaches_into_the_branches_of_an_if() -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, (64, 64), weight(64, 64).ravel())
    constant = helper.make_node("Constant", [], ["c"], value=value)
    branch = helper.make_graph([constant], "branch", [], [])
    nested = helper.make_node("If", ["cond"], ["y"], then_branch=branch, else_branch=branch)
    encoded = helper.make_graph([nested], "graph", [], []).SerializeToString()

    stripped = wire.strip_payloads(encoded, "graph", 0, len(encoded))

    assert len(stripped) < 300
    attribute = onnx.GraphProto.FromString(stripped).node[0].attribute[1]
    assert list(attribute.g.node[0].attribute[0].t.dims) == [64, 64]


def test_small_integers_survive_stripping() -> None:
    shape = helper.make_tensor("shape", TensorProto.INT64, (4,), (0, -1, 7, 7))
    big = helper.make_tensor("w", TensorProto.FLOAT, (64, 64), weight(64, 64).ravel())
    encoded = helper.make_graph([], "graph", [], [], [shape, big]).SerializeToString()

    stripped = wire.strip_payloads(encoded, "graph", 0, len(encoded))

    assert onnx.GraphProto.FromString(stripped).initializer[0] == shape


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x02\x00", "number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x0a\x05abc", "2 bytes more than there are"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "more than there are"),
        (b"\x08" + b"\xff" * 11, "longer than 10 bytes"),
        (b"\x08\xff", "cut off"),
        (b"\x09\x01", "more than there are"),
    ],
)
def test_bytes_that_are_no_message_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        list(wire.fields(data, 0, len(data)))


def test_nesting_without_end_is_refused() -> None:
    # From the inside out: a node (1) of a graph (6) of an attribute (5) of a node.
    message = bytes(wire.SMALL_MESSAGE_BYTES + 1)
    message = b"\x12" + _length(message) + message
    for _ in range(wire.MAX_DEPTH // 3 + 1):
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            message = tag + _length(message) + message

    with pytest.raises(WireError, match="nested more than 100 deep"):
        wire.strip_payloads(message, "graph", 0, len(message))


def test_more_structure_than_any_network_has_is_refused() -> None:
    # A string attribute is no payload, so all of it would be kept.
    name = bytes(wire.MAX_STRIPPED_BYTES)
    message = b"\x12" + _length(name) + name

    with pytest.raises(WireError, match="more than 256 MiB"):
        wire.strip_payloads(message, "graph", 0, len(message))


def _length(message: bytes) -> bytes:
    length, encoded = len(message), bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((*encoded, length))
