"""Shapes: tuples whose entries are integers, or strings where a dimension is symbolic."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from convlens.analysis.bounds import evaluate
from convlens.analysis.dimensions import to_count
from convlens.analysis.errors import SymbolicShapeError
from convlens.analysis.symbolic import Count

Dim = int | str
Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class Tensor:
    """What is known of one tensor before the network runs.

    Attributes:
        name: empty where an optional input is left out.
        dtype: numpy's or ONNX's name in lower case, as float32 or bfloat16; empty where unknown.
        shape: None where not even the rank is known.
    """

    name: str
    dtype: str
    shape: Shape | None

    @property
    def elements(self) -> int | None:
        """How many values it holds, a symbolic dimension counted as 1; None without a shape."""
        return None if self.shape is None else elements(self.shape)

    @property
    def bytes(self) -> int | None:
        """Its size in memory, a symbolic dimension counted as 1; None where not known."""
        return None if self.shape is None or not self.dtype else _bytes(self.shape, self.dtype)


Tensors = Mapping[str, Tensor]


def shape_of(name: str, tensors: Tensors) -> Shape | None:
    """The shape of the tensor of that name, where it is known."""
    return tensors[name].shape if name in tensors else None


def elements(shape: Iterable[Dim]) -> int:
    """The number of elements, a symbolic dimension counted as 1."""
    return math.prod([dim if isinstance(dim, int) else size_at_one(dim) for dim in shape])


@lru_cache(maxsize=4096)  # a network has few dimensions, and asks for each of them often
def size_at_one(dim: Dim) -> int:
    """The dimension where every symbol is 1, "2*batch" being 2; at least 1 itself."""
    return dim if isinstance(dim, int) else max(evaluate(to_count(dim), {}), 1)


def fixed(shape: Iterable[Dim]) -> tuple[int, ...]:
    """The shape as integers.

    Raises:
        SymbolicShapeError: a dimension is symbolic.
    """
    dims = tuple(shape)
    for dim in dims:
        if not isinstance(dim, int):
            raise SymbolicShapeError(f"the dimension {dim!r} of {format_shape(dims)} is not known")
    return tuple(dim for dim in dims if isinstance(dim, int))


@lru_cache(maxsize=4096)  # as `size_at_one`
def _bytes(shape: Shape, dtype: str) -> int:
    return storage_bytes(elements(shape), dtype)


def storage_bytes(count: int, dtype: str) -> int:
    """The bytes that `count` values take; types under a byte are packed, as ONNX stores them.

    A string counts as nothing: its length is in no type.
    """
    return (count * _bits(dtype) + 7) // 8


def storage_formula(count: Count, dtype: str) -> Count:
    """As `storage_bytes`, of a number of values that may be a formula."""
    return (count * _bits(dtype) + 7) // 8


@lru_cache(maxsize=64)
def _bits(dtype: str) -> int:
    return 8 if dtype == "bool" else next(map(int, re.findall(r"\d+", dtype)), 0)


def format_shape(shape: Iterable[Dim] | None) -> str:
    """The shape of a tensor for a reader, as "batch,6,28,28"; "?" where it is not known."""
    if shape is None:
        return "?"
    return ",".join(str(dim) for dim in shape) or "scalar"


def format_size(size: Iterable[Dim | None]) -> str:
    """The spatial size of a map for a reader, as "28x28"; "?" for what is not known."""
    return "x".join("?" if dim is None else str(dim) for dim in size)
