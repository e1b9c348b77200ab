"""A tensor's elements on the wire: raw bytes or typed contents become numpy arrays, and back."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from convlens.proto import inference_pb2 as pb
from convlens.server.errors import InvalidTensorError
from convlens.server.tensor import DTYPES, Array, Tensor

# The field of InferTensorContents by datatype. FP16 and BF16 have none.
CONTENTS_FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

# The fields that are wider than some of their datatypes.
WIDE_DTYPES = {"int_contents": np.dtype("<i4"), "uint_contents": np.dtype("<u4")}

# As numpy has it. The product of many more lengths is a number that takes hours to compute.
MAX_AXES = 64

LENGTH_BYTES = 4  # before each element of a raw BYTES tensor

InputTensor = pb.ModelInferRequest.InferInputTensor


def read_tensors(request: pb.ModelInferRequest) -> dict[str, Tensor]:
    """Read the inputs of a request, by name.

    Raw contents are not copied: the arrays are read-only views of the message.

    Raises:
        InvalidTensorError: an input's contents do not fit its shape and datatype; raw and typed
            contents are mixed; or an input is there twice.
    """
    raw, inputs = request.raw_input_contents, request.inputs
    if raw and any(entry.HasField("contents") for entry in inputs):
        raise InvalidTensorError(
            "raw_input_contents and typed contents are mixed: all inputs need the same form"
        )
    if raw and len(raw) != len(inputs):
        raise InvalidTensorError(
            f"raw_input_contents has {len(raw)} entries for {len(inputs)} inputs"
        )
    tensors: dict[str, Tensor] = {}
    for index, entry in enumerate(inputs):
        name, datatype, shape = entry.name, entry.datatype, tuple(entry.shape)
        if name in tensors:
            raise InvalidTensorError(f"input {name!r} is there twice")
        count = _element_count(entry, shape)
        elements = _raw_elements(entry, count, raw[index]) if raw else _typed(entry, count)
        tensors[name] = Tensor(datatype, _shaped(entry, elements))
    return tensors


def write_raw(tensor: Tensor) -> bytes:
    """The raw contents of an output."""
    if tensor.datatype != "BYTES":
        return tensor.values.astype(DTYPES[tensor.datatype], copy=False).tobytes()
    return b"".join(
        len(element).to_bytes(LENGTH_BYTES, "little") + element
        for element in _encoded(tensor.values.flat)
    )


def _element_count(entry: InputTensor, shape: tuple[int, ...]) -> int:
    if entry.datatype not in DTYPES:
        raise InvalidTensorError(
            f"input {entry.name!r} has datatype {entry.datatype!r}; there are {', '.join(DTYPES)}"
        )
    if "shared_memory_region" in entry.parameters:
        raise InvalidTensorError(
            f"input {entry.name!r} is in shared memory; this server takes contents in the message"
        )
    if len(shape) > MAX_AXES:
        raise InvalidTensorError(
            f"input {entry.name!r} has {len(shape)} axes; no array has more than {MAX_AXES}"
        )
    if min(shape, default=0) < 0:
        raise InvalidTensorError(
            f"input {entry.name!r} has shape {list(shape)}; no length may be negative"
        )
    return math.prod(shape)


def _shaped(entry: InputTensor, elements: Array) -> Array:
    try:
        return elements.reshape(tuple(entry.shape))
    except ValueError as error:  # its number of elements fits
        raise InvalidTensorError(
            f"input {entry.name!r} has {len(entry.shape)} axes, the longest of "
            f"{max(entry.shape, default=0)}: no array can have that shape"
        ) from error


def _raw_elements(entry: InputTensor, count: int, data: bytes) -> Array:
    if entry.datatype == "BYTES":
        return _objects(entry, count, list(_split(entry, data)))
    dtype = DTYPES[entry.datatype]
    if len(data) != count * dtype.itemsize:
        raise InvalidTensorError(
            f"input {entry.name!r} has {len(data)} bytes of raw contents; "
            f"{entry.datatype} {list(entry.shape)} needs {count * dtype.itemsize}"
        )
    return np.frombuffer(data, dtype)


def _split(entry: InputTensor, data: bytes) -> Iterator[bytes]:
    """The elements of a raw BYTES tensor."""
    end = 0
    while end < len(data):
        start = end + LENGTH_BYTES
        end = start + int.from_bytes(data[end:start], "little")
        if end > len(data):
            raise InvalidTensorError(
                f"input {entry.name!r}: its raw contents end within an element; each needs its "
                "length as 4 bytes, little-endian, and that many bytes"
            )
        yield data[start:end]


def _typed(entry: InputTensor, count: int) -> Array:
    field = CONTENTS_FIELDS.get(entry.datatype)
    if field is None:
        raise InvalidTensorError(
            f"input {entry.name!r}: {entry.datatype} has no typed contents; "
            "send it in raw_input_contents"
        )
    filled = [descriptor.name for descriptor, _ in entry.contents.ListFields()]
    if any(name != field for name in filled):
        raise InvalidTensorError(
            f"input {entry.name!r} has {', '.join(filled)}; {entry.datatype} needs {field}"
        )
    elements = getattr(entry.contents, field)
    if entry.datatype == "BYTES":
        return _objects(entry, count, elements)
    _check_count(entry, count, len(elements))
    dtype = DTYPES[entry.datatype]
    given = np.array(elements, WIDE_DTYPES.get(field, dtype))
    values = given.astype(dtype, copy=False)
    if values is not given and not np.array_equal(values, given):
        raise InvalidTensorError(f"input {entry.name!r} has an element beyond {entry.datatype}")
    return values


def _objects(entry: InputTensor, count: int, elements: Any) -> Array:
    _check_count(entry, count, len(elements))
    array = np.empty(count, object)
    array[:] = elements
    return array


def _check_count(entry: InputTensor, needed: int, given: int) -> None:
    if given != needed:
        raise InvalidTensorError(
            f"input {entry.name!r} has {given} elements; "
            f"{entry.datatype} {list(entry.shape)} needs {needed}"
        )


def _encoded(elements: Iterable[str | bytes]) -> Iterator[bytes]:
    for element in elements:
        yield element.encode() if isinstance(element, str) else element
