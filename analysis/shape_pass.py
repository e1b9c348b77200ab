"""One pass over the graph that carries shapes, dtypes and the values of shape arithmetic along."""

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import zip_longest

from convlens.analysis.bounds import evaluate, is_bounded
from convlens.analysis.dimensions import counts, to_dim
from convlens.analysis.graph import Graph, Node, StoredTensor
from convlens.analysis.operators import COMPARISONS
from convlens.analysis.shape import Shape, Tensor, Tensors, format_shape
from convlens.analysis.shape_functions import output_shapes
from convlens.analysis.shape_step import Counts, ShapeStep
from convlens.analysis.shape_values import fold, stored_values
from convlens.analysis.symbolic import Count, Expression, symbol
from convlens.analysis.values import Values

# No operator makes a tensor of more axes; the shapes of hostile files do.
_MAX_RANK = 32

# How onnx's inference names a dimension about which it knows nothing.
_UNKNOWN = re.compile(r"unk__\d+|\?")

# Asked for the outputs of one node: what onnx's inference says, given the inputs.
AskOnnx = Callable[[Node, Sequence[Tensor], Callable[[str], Values | None]], Sequence[Tensor]]


@dataclass(frozen=True)
class Body:
    """A graph inside an If, Loop or Scan, and what is known of its tensors.

    Attributes:
        graph: the body.
        tensors: its own tensors and those around it.
        bodies: those inside it, by the index of its node.
        runs: how often it is run where its node is; None where that is computed.
    """

    graph: Graph
    tensors: Tensors
    bodies: Mapping[int, tuple["Body", ...]]
    runs: int | None


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
            self._value,
        )
        shapes = self._body_outputs(node, step)
        if shapes is None:
            shapes = output_shapes(step)
        folded = fold(step)
        if folded is not None and node.output:
            self.values[node.output] = folded
        asked: Sequence[Tensor] = ()
        if shapes is None and not all(self._is_inferred(name) for name in node.outputs if name):
            asked = self.ask_onnx(node, known, self._value)
        for index, name in enumerate(node.outputs):
            if name:
                own = shapes[index] if shapes is not None and index < len(shapes) else None
                self._settle(node, index, own, known, asked)

    def _value(self, name: str) -> Values | None:
        if name not in self.values:
            stored = self.stored.get(name)
            self.values[name] = None if stored is None else stored_values(stored)
        return self.values[name]

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

    def _body_outputs(self, node: Node, step: ShapeStep) -> Sequence[Counts | None] | None:
        """The shapes of what an If, Loop or Scan gives; None for another operator."""
        function = _BODIES.get(node.op_type)
        return None if function is None else function(self, node, step)

    def _inside(
        self, graph: Graph, shapes: Sequence[Counts | None], runs: int | None
    ) -> tuple[Body, list[Counts | None]]:
        """Run through a body; the shapes are those of its inputs, as far as they are known."""
        inside = ShapePass(
            self.inferred,
            self.ask_onnx,
            ChainMap({}, self.tensors),
            ChainMap({}, self.values),
            disputed=self.disputed,
            invented=self.invented,
            stored=ChainMap({}, self.stored),
        )
        inputs = [
            tensor if shape is None else Tensor(tensor.name, tensor.dtype, _dims(shape))
            for tensor, shape in zip_longest(graph.inputs, shapes[: len(graph.inputs)])
        ]
        inside.run(graph, inputs)
        found = [inside.tensors.get(output.name, output) for output in graph.outputs]
        body = Body(graph, inside.tensors, inside.bodies, runs)
        return body, [_counts(tensor.shape) for tensor in found]

    def _if(self, node: Node, step: ShapeStep) -> list[Counts | None]:
        condition = step.value(0)
        names = ["then_branch", "else_branch"]
        if condition is not None and condition.size == 1:
            names = names[:1] if condition.item() else names[1:]
        graphs = [node.attributes.get(name) for name in names]
        results = [self._inside(graph, (), 1) for graph in graphs if isinstance(graph, Graph)]
        self.bodies[node.index] = tuple(body for body, _ in results)
        branches = [shapes for _, shapes in results]
        return [self._shared(node, column) for column in zip_longest(*branches)]

    def _loop(self, node: Node, step: ShapeStep) -> list[Counts | None] | None:
        graph = node.attributes.get("body")
        if not isinstance(graph, Graph):
            return None
        limit, go_on = step.value(0), step.value(1)
        trips: Count | None = limit.item() if limit is not None and limit.size == 1 else None
        runs_through = not step.has(1) or (go_on is not None and all(go_on.ravel()))
        runs = evaluate(trips, {}) if trips is not None and runs_through else None
        states = list(step.shapes[2:])
        body, outputs = self._inside(graph, [(), (), *states], runs)
        self.bodies[node.index] = (body,)
        kept = [
            self._shared(node, (before, after))
            for before, after in zip(states, outputs[1 : 1 + len(states)], strict=False)
        ]
        length = symbol(f"{_identifier(node.name)}_trips") if trips is None else trips
        stacked = [
            None if shape is None else (length, *shape) for shape in outputs[1 + len(states) :]
        ]
        return [*kept, *stacked]

    def _scan(self, node: Node, step: ShapeStep) -> list[Counts | None] | None:
        graph = node.attributes.get("body")
        count = node.attributes.get("num_scan_inputs", 0)
        states = len(step.shapes) - count
        if not isinstance(graph, Graph) or not 0 <= states < len(step.shapes):
            return None
        axes = node.attributes.get("scan_input_axes") or (0,) * count
        sequences = [
            None if shape is None or not -len(shape) <= axis < len(shape) else (shape, axis)
            for shape, axis in zip(step.shapes[states:], axes, strict=False)
        ]
        length = next((shape[axis] for shape, axis in filter(None, sequences)), None)
        slices = [
            None
            if sequence is None
            else tuple(d for a, d in enumerate(sequence[0]) if a != sequence[1] % len(sequence[0]))
            for sequence in sequences
        ]
        runs = None if length is None else evaluate(length, {})
        body, outputs = self._inside(graph, [*step.shapes[:states], *slices], runs)
        self.bodies[node.index] = (body,)
        stacked = [
            None if shape is None or length is None else (length, *shape)
            for shape in outputs[states:]
        ]
        return [*outputs[:states], *stacked]

    def _shared(self, node: Node, shapes: Sequence[Counts | None]) -> Counts | None:
        """What several runs' shapes have in common; a dimension that differs gets a name."""
        known = [shape for shape in shapes if shape is not None]
        if len(known) != len(shapes) or len({len(shape) for shape in known}) != 1:
            return None
        return tuple(
            dims[0] if len(set(dims)) == 1 else symbol(f"{_identifier(node.name)}_dim{axis}")
            for axis, dims in enumerate(zip(*known, strict=True))
        )


_BODIES: Mapping[str, Callable[[ShapePass, Node, ShapeStep], Sequence[Counts | None] | None]] = {
    "If": ShapePass._if,
    "Loop": ShapePass._loop,
    "Scan": ShapePass._scan,
}


def all_bodies(bodies: Mapping[int, tuple[Body, ...]]) -> Iterator[Body]:
    """Every body, those inside others included."""
    for group in bodies.values():
        for body in group:
            yield body
            yield from all_bodies(body.bodies)


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


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


# Their outputs have no type of an input.
_TYPED_OTHERWISE = {"Cast", "ConstantOfShape", "If", "Loop", "Scan"}


def _dtype(node: Node, index: int, inputs: Sequence[Tensor]) -> str:
    """The dtype of an output where onnx's inference did not get so far."""
    if node.op_type in {"Shape", "Size", "NonZero", "ArgMax", "ArgMin"}:
        return "int64"
    if node.op_type in COMPARISONS:
        return "bool"
    if node.op_type.rpartition("::")[2] == "DequantizeLinear" and len(inputs) > 1:
        return inputs[1].dtype
    if node.op_type.rpartition("::")[2] == "QuantizeLinear":
        return inputs[2].dtype if len(inputs) > 2 else "uint8"
    if node.op_type in {"ConvInteger", "MatMulInteger"}:
        return "int32"
    # Before opset 10 a Dropout's mask has the type of its data; since then onnx's inference tells.
    is_mask = index == 1 and node.op_type == "Dropout"
    if (index == 0 or is_mask) and node.op_type not in _TYPED_OTHERWISE:
        position = 1 if node.op_type == "Where" else 0
        return inputs[position].dtype if position < len(inputs) else ""
    return ""
