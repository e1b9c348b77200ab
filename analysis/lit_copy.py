"""Lit copies under construction: the nodes and constants of which perturbation builds one.

Every tensor on the image's way holds 0 and 1; see `perturbation`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from convlens.analysis.errors import SymbolicShapeError
from convlens.analysis.field import Field, mixed
from convlens.analysis.shape import Shape, Tensors, fixed, shape_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_REDUCE_MAX_TAKES_AN_INPUT_SINCE = 18
_CLIP_TAKES_INPUTS_SINCE = 11


@dataclass
class LitCopy:
    """The copy as far as it is built.

    Attributes:
        image_axis: what a global operator adds along it is left out.
        opset: the version of ONNX's own operators.
        tensors: the shapes of the network's tensors.
        nodes: the copy's, in order.
        constants: the copy's own, by name.
    """

    image_axis: int
    opset: int
    tensors: Tensors
    nodes: list["NodeProto"] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)

    def add(self, op_type: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node; its output is named as wanted, or anew."""
        name = output or f"copy::{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add a constant."""
        name = f"copy::constant::{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.asarray(values, dtype), name)
        return name

    def dark(self, shape: Shape | None, output: str = "") -> str:
        """A tensor of noughts.

        Raises:
            SymbolicShapeError: the shape is not known.
        """
        if shape is None:
            raise SymbolicShapeError(f"the shape of {output or 'an operand'!r} is not known")
        dims = self.constant(fixed(shape), np.int64)
        zero = helper.make_tensor("", TensorProto.FLOAT, [1], [0.0])
        return self.add("ConstantOfShape", [dims], output, value=zero)

    def highest(
        self, name: str, axes: Sequence[int], output: str = "", *, keep: bool = True
    ) -> str:
        """The largest value along some axes."""
        if self.opset < _REDUCE_MAX_TAKES_AN_INPUT_SINCE:
            return self.add("ReduceMax", [name], output, axes=list(axes), keepdims=int(keep))
        listed = self.constant(axes, np.int64)
        return self.add("ReduceMax", [name, listed], output, keepdims=int(keep))

    def unite(self, operands: Sequence[str], output: str = "") -> str:
        """What lights any of the operands, which are broadcast to one shape."""
        return self.add("Max" if len(operands) > 1 else "Identity", operands, output)

    def spread(self, operands: Sequence[str], shape: Shape | None, output: str) -> str:
        """The same, broadcast to this shape.

        Raises:
            SymbolicShapeError: the shape is not known.
        """
        if not operands or shape is None:
            return self.dark(shape, output)
        dims = self.constant(fixed(shape), np.int64)
        return self.add("Expand", [self.unite(operands), dims], output)

    def capped(self, name: str) -> str:
        """What is above 1 becomes 1: for sums of noughts and ones ten times as fast as a Sign."""
        if self.opset < _CLIP_TAKES_INPUTS_SINCE:
            return self.add("Clip", [name], min=0.0, max=1.0)
        return self.add("Clip", [name, self.constant(0), self.constant(1)])

    def picked(self, name: str, places: Mapping[int, Sequence[int]]) -> str:
        """Some positions of a tensor, by axis: the rest of it need not outlive its readers."""
        for axis, positions in places.items():
            name = self.add("Gather", [name, self.constant(positions, np.int64)], axis=axis)
        return name

    def loses(self, seen: Field, axes: Iterable[int]) -> bool:
        """Whether no path along the image axis stays local once `axes` are mixed."""
        for axis in axes:
            seen = mixed(seen, axis, 1, node=0)
        return seen.views[self.image_axis] is None

    def finished(
        self, proto: "ModelProto", pictures: Sequence[str], outputs: Sequence[str]
    ) -> "ModelProto":
        """The copy as a model.

        Args:
            proto: the network, of whose constants it takes what it reads.
            pictures: the inputs that are lit.
            outputs: the tensors that are looked at; what none of them depends on is left out.
        """
        constants = [node for node in proto.graph.node if node.op_type == "Constant"]
        nodes = _needed([*constants, *self.nodes], outputs)
        read = {name for node in nodes for name in node.input}
        shapes = {name: shape_of(name, self.tensors) for name in pictures}
        stored = [tensor for tensor in proto.graph.initializer if tensor.name in read]
        made = helper.make_graph(
            nodes,
            "lit",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, fixed(shape))
                for name, shape in shapes.items()
                if shape is not None
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [*stored, *(tensor for name, tensor in self.constants.items() if name in read)],
        )
        return helper.make_model(
            made, opset_imports=proto.opset_import, ir_version=proto.ir_version
        )


def _needed(nodes: Sequence["NodeProto"], outputs: Iterable[str]) -> list["NodeProto"]:
    """The nodes that the outputs depend on."""
    wanted, kept = set(outputs), list["NodeProto"]()
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
