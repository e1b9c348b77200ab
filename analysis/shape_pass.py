"""One pass over the graph that carries shapes, dtypes and the values of shape arithmetic along."""

import re
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest

from convlens.analysis.bounds import is_bounded
from convlens.analysis.dimensions import counts, to_dim
from convlens.analysis.graph import Graph, Node, StoredTensor
from convlens.analysis.operators import COMPARISONS
from convlens.analysis.shape import Shape, Tensor, Tensors, format_shape
from convlens.analysis.shape_bodies import Body, body_outputs
from convlens.analysis.shape_functions import output_shapes
from convlens.analysis.shape_step import Counts, ShapeStep
from convlens.analysis.shape_values import fold, stored_values
from convlens.analysis.symbolic import Count, Expression
from convlens.analysis.values import Values

# No operator makes a tensor of more axes; the shapes of hostile files do.
_MAX_RANK = 32

# How onnx's inference names a dimension about which it knows nothing.
_UNKNOWN = re.compile(r"unk__\d+|\?")

# Asked for the outputs of one node: what onnx's inference says, given the inputs.
AskOnnx = Callable[[Node, Sequence[Tensor], Callable[[str], Values | None]], Sequence[Tensor]]


@dataclass
class ShapePass:
    """What is known so far; `run` fills it.

    Attributes:
        inferred: what onnx's inference found, or the file declares.
        ask_onnx: for an operator that has no shape function here.
        tensors: what is known of each tensor.
        values: of the tensors of which shapes are computed.
        bodies: by the index of the node that holds them.
        disputes: by the index of a node, how onnx's output shape differs from the formula's.
        disputed: the tensors with a dispute at or before them.
        invented: names given to dimensions that are not known.
        stored: the tensors that the file holds; their values are read when asked for.
    """

    inferred: Tensors
    ask_onnx: AskOnnx
    tensors: MutableMapping[str, Tensor] = field(default_factory=dict)
    values: MutableMapping[str, Values | None] = field(default_factory=dict)
    bodies: dict[int, tuple[Body, ...]] = field(default_factory=dict)
    disputes: dict[int, str] = field(default_factory=dict)
    disputed: set[str] = field(default_factory=set)
    invented: set[str] = field(default_factory=set)
    stored: MutableMapping[str, StoredTensor] = field(default_factory=dict)

    def run(self, graph: Graph, inputs: Sequence[Tensor]) -> None:
        """Carry shapes from the inputs to the outputs."""
        self.stored.update(graph.stored)
        for name, stored in graph.stored.items():
            self.tensors[name] = stored.tensor
        for tensor in inputs:
            self.tensors[tensor.name] = self._named(tensor)
        for node in graph.nodes:
            self._visit(node)

    def _visit(self, node: Node) -> None:
        known = [
            self.tensors[name] if name in self.tensors else Tensor(name, "", None)
            for name in node.inputs
        ]
        step = ShapeStep(
            node,
            tuple([_counts(tensor.shape) for tensor in known]),
            tuple([tensor.dtype for tensor in known]),
            self.value,
        )
        shapes, bodies = body_outputs(self, step) if node.bodies else (None, ())
        if bodies:
            self.bodies[node.index] = bodies
        if shapes is None:
            shapes = output_shapes(step)
        folded = fold(step)
        if folded is not None and node.output:
            self.values[node.output] = folded
        asked: Sequence[Tensor] = ()
        if shapes is None and not all(self._is_inferred(name) for name in node.outputs if name):
            asked = self.ask_onnx(node, known, self.value)
        for index, name in enumerate(node.outputs):
            if name:
                own = shapes[index] if shapes is not None and index < len(shapes) else None
                self._settle(node, index, own, known, asked)

    def _settle(
        self,
        node: Node,
        index: int,
        own: Counts | None,
        inputs: Sequence[Tensor],
        asked: Sequence[Tensor],
    ) -> None:
        """Decide on one output: the formula's shape, else onnx's, else the file's."""
        name = node.outputs[index]
        theirs = self.inferred[name] if name in self.inferred else Tensor(name, "", None)
        if index < len(asked) and asked[index].shape is not None:
            theirs = asked[index]
        shape = theirs.shape
        if own is not None and own == shape and theirs.dtype:
            # Both say the same, in numbers.
            self.tensors[name] = theirs
            return
        if own is not None and len(own) <= _MAX_RANK:
            shape = tuple(map(_dim, own))
            if shape != theirs.shape:
                self._dispute(node, name, shape, theirs.shape)
            if self.invented and theirs.shape is not None and len(theirs.shape) == len(shape):
                # What the formula could only give a name, onnx may know.
                shape = tuple(
                    found if isinstance(found, int) and dim in self.invented else dim
                    for dim, found in zip(shape, theirs.shape, strict=True)
                )
        dtype = theirs.dtype or _dtype(node, index, inputs)
        self.tensors[name] = self._named(Tensor(name, dtype, shape))

    def _dispute(self, node: Node, name: str, own: Shape, theirs: Shape | None) -> None:
        if theirs is None:
            return
        agree = all(
            not isinstance(mine, int) or not isinstance(found, int) or mine == found
            for mine, found in zip_longest(own, theirs)
        ) and len(own) == len(theirs)
        if agree:
            return
        # Only the first of a chain of differences is news.
        if not self.disputed.intersection(node.inputs):
            self.disputes[node.index] = (
                f"{node.name}: onnx infers the output shape [{format_shape(theirs)}], "
                f"the formula gives [{format_shape(own)}]"
            )
        self.disputed.add(name)

    def _is_inferred(self, name: str) -> bool:
        shape = self.inferred[name].shape if name in self.inferred else None
        return shape is not None and not any(_is_unknown(dim) for dim in shape)

    def _named(self, tensor: Tensor) -> Tensor:
        """The tensor, each of its dimensions that are not known with a name of its own."""
        if tensor.shape is None or not any(_is_unknown(dim) for dim in tensor.shape):
            return tensor
        prefix = re.sub(r"\W", "_", tensor.name)
        dims = tuple(
            f"{prefix}_dim{axis}" if _is_unknown(dim) else dim
            for axis, dim in enumerate(tensor.shape)
        )
        self.invented.update(
            str(dim) for dim, old in zip(dims, tensor.shape, strict=True) if dim != old
        )
        return Tensor(tensor.name, tensor.dtype, dims)

    def inside(
        self,
        graph: Graph,
        shapes: Sequence[Counts | None],
        values: Mapping[str, Values] | None = None,
    ) -> "ShapePass":
        """Run through a body.

        Args:
            graph: the body.
            shapes: of its inputs, as far as they are known.
            values: of its inputs, by name.
        """
        inside = ShapePass(
            self.inferred,
            self.ask_onnx,
            ChainMap({}, self.tensors),
            ChainMap({**(values or {})}, self.values),
            disputed=self.disputed,
            invented=self.invented,
            stored=ChainMap({}, self.stored),
        )
        inputs = [
            tensor if shape is None else Tensor(tensor.name, tensor.dtype, _dims(shape))
            for tensor, shape in zip_longest(graph.inputs, shapes[: len(graph.inputs)])
        ]
        inside.run(graph, inputs)
        return inside

    def shapes_of(self, outputs: Sequence[Tensor]) -> list[Counts | None]:
        """The shapes of a body's outputs, after its run."""
        return [_counts(self.tensors.get(tensor.name, tensor).shape) for tensor in outputs]

    def value(self, name: str) -> Values | None:
        """The values of a tensor; None where they are not known."""
        if name not in self.values:
            stored = self.stored.get(name)
            self.values[name] = None if stored is None else stored_values(stored)
        return self.values[name]


def _counts(shape: Shape | None) -> Counts | None:
    return None if shape is None else counts(shape)


def _dims(shape: Counts) -> Shape:
    return tuple(map(to_dim, shape))


@lru_cache(maxsize=4096, typed=True)  # the same few dimensions come back in every shape
def _dim(count: Count) -> int | str:
    """The dimension; what a damaged file makes of one, as a negative number, is not known."""
    is_number = isinstance(count, Expression | int) and not isinstance(count, bool)
    if is_number and is_bounded(count):
        return to_dim(count) if isinstance(count, Expression) or count >= 0 else "?"
    return "?"


def _is_unknown(dim: int | str) -> bool:
    return isinstance(dim, str) and _UNKNOWN.fullmatch(dim) is not None


# Their outputs have no type of an input.
_TYPED_OTHERWISE = {"Cast", "ConstantOfShape", "If", "Loop", "Scan"}

# The input that has the type of the first output, where it is not the first.
_TYPED_LIKE = {
    "DequantizeLinear": 1,
    "Where": 1,
    "com.microsoft::DequantizeLinear": 1,
    "com.microsoft::MatMulIntegerToFloat": 2,
    "com.microsoft::QLinearConcat": 2,
}


def _dtype(node: Node, index: int, inputs: Sequence[Tensor]) -> str:
    """The dtype of an output where onnx's inference did not get so far."""
    gives_places = index == 1 and node.op_type in {"MaxPool", "TopK"}
    if gives_places or node.op_type in {"Shape", "Size", "NonZero", "ArgMax", "ArgMin"}:
        return "int64"
    if node.op_type in COMPARISONS:
        return "bool"
    if node.op_type.rpartition("::")[2] == "QuantizeLinear":
        return inputs[2].dtype if len(inputs) > 2 else "uint8"
    if node.op_type in {"ConvInteger", "MatMulInteger"}:
        return "int32"
    # Before opset 10 a Dropout's mask has the type of its data; since then onnx's inference tells.
    is_mask = index == 1 and node.op_type == "Dropout"
    if (index == 0 or is_mask) and node.op_type not in _TYPED_OTHERWISE:
        position = _TYPED_LIKE.get(node.op_type, 0)
        if node.op_type == "com.microsoft::QGemm":
            # Without a zero point of the output, its last input, it gives floats as its scale is.
            position = 8 if len(inputs) > 8 else 1
        return inputs[position].dtype if position < len(inputs) else ""
    return ""
