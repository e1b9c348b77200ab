"""The graph as plain values: operators in order, and every stored tensor in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from convlens.analysis.onnx_parts import TensorProto
from convlens.analysis.shape import Tensor, storage_bytes
from convlens.analysis.values import Values, read_values

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor whose values the file holds: an initializer or the value of a Constant.

    Attributes:
        name: of the tensor in the graph.
        dtype: as in `Tensor`.
        shape: all integers.
        proto: the tensor as stored, without its values where it is larger than a few KB.
        takes_space: False where a node makes it of a shape and one value.
        sparse_count: how many of its values the file holds, the others being zero; None where all.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    proto: TensorProto | None = None
    takes_space: bool = True
    sparse_count: int | None = None

    @property
    def stored_count(self) -> int:
        """How many values it has, without the zeros that a sparse one leaves out."""
        return prod(self.shape) if self.sparse_count is None else self.sparse_count

    @property
    def stored_bytes(self) -> int:
        """What its values take in the file; the places of a sparse tensor's do not count."""
        return storage_bytes(self.stored_count, self.dtype) if self.takes_space else 0

    @property
    def tensor(self) -> Tensor:
        """Its name, dtype and shape."""
        return Tensor(self.name, self.dtype, self.shape)

    @cached_property
    def values(self) -> Values | None:
        """Its values; None where they were not read, do not fill the shape, or are no numbers."""
        return None if self.proto is None else read_values(self.proto)


@dataclass(frozen=True)
class Node:
    """One operator of the graph.

    Attributes:
        index: its position in the file's order of execution, Constants left out.
        name: that of the file, or its first output's.
        op_type: as "Conv"; operators outside ONNX's own domain carry theirs, "com.microsoft::Gelu".
        inputs: tensor names; empty where an optional input is left out.
        outputs: tensor names.
        attributes: numbers, texts and lists of them; StoredTensor and Graph where it holds such.
        scope: the PyTorch module that it came from; None where the file does not say.
        folded_batch_norm: whether the exporter folded a BatchNormalization into it.
        rewrites: the exporter's rewriting rules that made it.
        bodies: the graphs inside an If, Loop or Scan.
    """

    index: int
    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    scope: str | None
    folded_batch_norm: bool
    rewrites: tuple[str, ...]
    bodies: tuple["Graph", ...] = ()

    def input(self, index: int) -> str:
        """The name of the input at `index`; empty where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    @property
    def reads(self) -> tuple[str, ...]:
        """The tensors that it needs: its inputs, and what its bodies take from around them."""
        if not self.bodies and "" not in self.inputs:
            return self.inputs
        captured = [name for body in self.bodies for name in body.captured]
        return tuple(filter(None, (*self.inputs, *captured)))

    @property
    def output(self) -> str:
        """The name of the first output; empty where there is none."""
        return self.outputs[0] if self.outputs else ""


@dataclass(frozen=True)
class Graph:
    """The operators in the order of execution, and what flows between them.

    Attributes:
        inputs: what the caller feeds, initializers excluded.
        outputs: what the caller gets.
        nodes: all operators but Constant.
        stored: initializers and the values of Constants, by name.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    stored: Mapping[str, StoredTensor]

    @cached_property
    def captured(self) -> tuple[str, ...]:
        """What a body takes from the graph around it."""
        made = {name for node in self.nodes for name in node.outputs}
        made.update(self.stored, (tensor.name for tensor in self.inputs))
        read = [name for node in self.nodes for name in node.reads]
        read += [tensor.name for tensor in self.outputs]
        return tuple(dict.fromkeys(name for name in read if name not in made))
