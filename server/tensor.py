"""Tensors with the datatypes of the Open Inference Protocol, and what a model says of its own."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from convlens.server.errors import InvalidTensorError

Array = np.ndarray[Any, np.dtype[Any]]

# By the protocol's name: how numpy holds the elements, little-endian as they travel. BYTES are
# Python objects; BF16, which numpy lacks, keeps its bits.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}

# By onnxruntime's name. It cannot hand bfloat16 to numpy, hence there is none here.
DATATYPES: dict[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class Tensor(NamedTuple):
    """One tensor of a request or an answer.

    Attributes:
        datatype: a key of `DTYPES`.
        values: of that dtype; the elements of BYTES are `bytes`, or `str` as onnxruntime has them.
    """

    datatype: str
    values: Array


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: of the tensor.
        datatype: a key of `DTYPES`.
        shape: None where any length will do.
    """

    name: str
    datatype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        lengths = ("-1" if length is None else str(length) for length in self.shape)
        return f"{self.datatype} [{', '.join(lengths)}]"

    def values(self, tensor: Tensor) -> Array:
        """What a request gives for this input, as onnxruntime takes it.

        Raises:
            InvalidTensorError: the datatype or the shape is another one. Nothing is cast.
        """
        given = tensor.values.shape
        if tensor.datatype != self.datatype or not self._admits(given):
            raise InvalidTensorError(
                f"input {self.name!r} is {tensor.datatype} {list(given)}; the model takes {self}"
            )
        return tensor.values if self.datatype != "BYTES" else self._strings(tensor.values)

    def _admits(self, shape: tuple[int, ...]) -> bool:
        if len(shape) != len(self.shape):
            return False
        for length, wanted in zip(shape, self.shape, strict=True):
            if wanted is not None and wanted != length:
                return False
        return True

    def _strings(self, values: Array) -> Array:
        try:
            strings = [element.decode() for element in values.flat]
        except UnicodeDecodeError as error:
            raise InvalidTensorError(
                f"input {self.name!r} takes text in UTF-8: {error.reason} at byte {error.start}"
            ) from error
        return np.array(strings, dtype=object).reshape(values.shape)
