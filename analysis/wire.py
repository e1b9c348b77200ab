"""The protobuf wire format, read in place: where each field lies, without decoding what it holds.

A model file is nearly all tensor payloads. `strip_payloads` copies everything else, so that time
and memory depend on the number of operators and not on the size of the weights.

Source: https://protobuf.dev/programming-guides/encoding/ and onnx.proto for the field numbers.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from convlens.analysis.errors import WireError

Buffer = bytes | mmap.mmap
Message = Literal["model", "graph", "function", "node", "attribute", "tensor", "sparse_tensor"]

# The bytes of a number from which on another one follows.
_LONGER = 0x80

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5

# For each message, the fields that may hold a tensor somewhere below them.
CHILDREN: dict[Message, dict[int, Message]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse_tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse_tensor",
        23: "sparse_tensor",
    },
    "tensor": {},
    "sparse_tensor": {1: "tensor", 2: "tensor"},
}

# TensorProto's float_data, int32_data, string_data, int64_data, raw_data, double_data, uint64_data;
# its external_data only says where the values are, and stays.
TENSOR_PAYLOADS = frozenset({4, 5, 6, 7, 9, 10, 11})

# A message of at most this size is copied whole: it may hold the integers of a shape computation,
# and copying it costs less than looking inside.
SMALL_MESSAGE_BYTES = 4096

# What is left of a large network without its payloads is a few MB.
MAX_STRIPPED_BYTES = 256 * 2**20

# Enough for hundreds of thousands of operators; a file of tiny fields alone would take minutes.
MAX_FIELDS = 1_000_000

# The limit that protobuf's own parsers set.
MAX_DEPTH = 100


class Field(NamedTuple):
    """Where one field lies: its tag at `start`, its value from `value` up to `end`."""

    number: int
    wire_type: int
    start: int
    value: int
    end: int


@dataclass
class Budget:
    """How many more fields may be walked."""

    fields: int = MAX_FIELDS


def fields(data: Buffer, start: int, end: int, budget: Budget | None = None) -> Iterator[Field]:
    """Walk the fields of the message that lies at data[start:end].

    Raises:
        WireError: the bytes are not a protobuf message, a field runs past `end`, or there are
            more fields than the budget allows.
    """
    budget = budget or Budget()
    position = start
    while position < end:
        budget.fields -= 1
        if budget.fields < 0:
            raise WireError(f"it has more than {MAX_FIELDS:,} fields")
        tag, value = data[position], position + 1
        if tag >= _LONGER:
            tag, value = _varint(data, position, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            stop = _varint(data, value, end)[1]
        elif wire_type == LENGTH_DELIMITED:
            if value < end and (length := data[value]) < _LONGER:
                value += 1
            else:
                length, value = _varint(data, value, end)
            stop = value + length
        elif wire_type == FIXED64:
            stop = value + 8
        elif wire_type == FIXED32:
            stop = value + 4
        else:
            raise WireError(f"byte {position} starts no field (wire type {wire_type})")
        if number == 0:
            raise WireError(f"byte {position} starts no field (number 0)")
        if stop > end:
            raise WireError(
                f"field {number} at byte {position} needs {stop - end:,} bytes more than there are"
            )
        yield Field(number, wire_type, position, value, stop)
        position = stop


def strip_payloads(
    data: Buffer,
    message: Message,
    start: int,
    end: int,
    depth: int = 0,
    budget: Budget | None = None,
) -> bytes:
    """Copy the message at data[start:end] without the payloads of its larger tensors.

    The copy is a valid message of the same type: its tensors keep name, dims and data_type.

    Args:
        data: the mapped file.
        message: which message of onnx.proto lies there.
        start: the message's first byte.
        end: the byte after its last.
        depth: how many messages enclose it.
        budget: shared by all messages of the file.

    Raises:
        WireError: the bytes are not a protobuf message, are nested too deeply, have too many
            fields, or are too many even without the payloads.
    """
    if depth > MAX_DEPTH:
        raise WireError(f"messages are nested more than {MAX_DEPTH} deep")
    budget = budget or Budget()
    children = CHILDREN[message]
    payloads = TENSOR_PAYLOADS if message == "tensor" else frozenset()
    kept = bytearray()
    kept_up_to = start

    def keep(chunk_end: int) -> None:
        if len(kept) + chunk_end - kept_up_to > MAX_STRIPPED_BYTES:
            raise WireError(
                f"without its weights it still takes more than {MAX_STRIPPED_BYTES >> 20} MiB"
            )
        kept.extend(data[kept_up_to:chunk_end])

    for field in fields(data, start, end, budget):
        child = children.get(field.number)
        if field.number in payloads:
            keep(field.start)
            kept_up_to = field.end
        elif (
            child is not None
            and field.wire_type == LENGTH_DELIMITED
            and field.end - field.value > SMALL_MESSAGE_BYTES
        ):
            keep(field.start)
            kept_up_to = field.end
            body = strip_payloads(data, child, field.value, field.end, depth + 1, budget)
            kept += _encode_varint(field.number << 3 | LENGTH_DELIMITED)
            kept += _encode_varint(len(body))
            kept += body
    keep(end)
    return bytes(kept)


def _varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """Read a base-128 number; returns it and the position after it."""
    number = 0
    for index in range(10):
        if position + index >= end:
            raise WireError(f"the number at byte {position} is cut off")
        byte = data[position + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < _LONGER:
            return number, position + index + 1
    raise WireError(f"the number at byte {position} is longer than 10 bytes")


def _encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
