"""Parameters: which stored tensors are weights, and which node each of them belongs to."""

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from convlens.analysis.graph import Graph, Node, StoredTensor
from convlens.analysis.operators import QUANTISED_OPERANDS

# Operators whose every floating-point input is a weight, a single number included.
_WEIGHTED = frozenset({
    "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "GroupNormalization",
    "InstanceNormalization", "LayerNormalization", "MatMul", "PRelu", "RMSNormalization",
})  # fmt: skip

# Operators whose constant inputs say what to do, and were not learned.
_CONFIGURED = frozenset({
    "Clip", "ConstantOfShape", "DequantizeLinear", "DynamicQuantizeLinear", "OneHot", "Pad", "Pow",
    "QuantizeLinear", "Range", "Resize", "Upsample", "com.microsoft::DequantizeLinear",
    "com.microsoft::QuantizeLinear",
})  # fmt: skip
_DEQUANTISERS = frozenset({"DequantizeLinear", "com.microsoft::DequantizeLinear"})

# The first output holds the values of the first input; other inputs, as the scale of a
# DequantizeLinear, say how.
_CARRIERS = _DEQUANTISERS | {"Cast", "Expand", "Reshape", "Slice", "Squeeze", "Unsqueeze"}

# Weights of so few bits are floats that were quantised; longer integers are sizes and indices.
_NARROW = frozenset({"int2", "int4", "int8", "uint2", "uint4", "uint8"})
# What scales and shifts them to floats where no DequantizeLinear does.
_SCALERS = frozenset({"Div", "Mul", "Sub"})

# The scale and the shift of a BatchNormalization that has none are ones and zeros that PyTorch's
# exporters made, and named themselves.
_NEUTRAL = {1: 1.0, 2: 0.0}
_MADE_BY_EXPORTER = re.compile(r"(.*/)?Constant(_\d+)?_output_0|val_\d+")

# BatchNormalization's running mean and variance.
_STATISTICS_INPUTS = frozenset({3, 4})

# The exporter's rule that drops a bias of zeros.
_DROPS_BIAS = "RemoveOptionalBias"


@dataclass(frozen=True)
class Parameters:
    """The parameters of one node; a shared weight belongs to its first user alone.

    Attributes:
        learnable: what training changes: the stored weights, those of a folded BatchNormalization
            in place of the bias that its folding made.
        statistics: running means and variances.
        stored: what the file holds, statistics included.
        stored_bytes: its size in the type that it is stored in.
        folded_batch_norm: whether a BatchNormalization was folded into the node.
    """

    learnable: int = 0
    statistics: int = 0
    stored: int = 0
    stored_bytes: int = 0
    folded_batch_norm: bool = False


def count_parameters(graph: Graph, folded: int | None = None) -> tuple[Parameters, ...]:
    """Count the parameters of every node, in the order of `graph.nodes`.

    A weight that reaches its user through operators on constants alone (a Transpose, a Cast, a
    DequantizeLinear) belongs to that user. Integers that steer an operator (the target of a
    Reshape) and single numbers (the 0.5 of a Mul) are no parameters. A quantised weight counts as
    the numbers of its float twin; its scale and zero point do not. Of a sparse weight the values
    that the file holds count. The weights of a body belong to the If, Loop or Scan around it.

    Args:
        graph: whose nodes are counted.
        folded: how many more parameters the network has than the file stores, where the file's
            model card says so. It tells whether the Convs had biases before the folding, where
            no rewriting rule does.
    """
    parameters = _count(graph, had_biases=False)
    if (
        folded is not None
        and sum(p.learnable + p.statistics - p.stored for p in parameters) < folded
    ):
        return _count(graph, had_biases=True)
    return parameters


@dataclass(frozen=True)
class _Origin:
    """A stored tensor from which a constant comes."""

    name: str
    quantised: bool = False


@dataclass
class _Counter:
    """Counts the nodes of a graph and of the bodies inside it.

    Attributes:
        had_biases: whether the Convs had biases before a folding of which no rule tells.
        stored: the tensors that the file holds, by name.
        origins: of each constant, by name.
        counted: the stored tensors that a node has been given.
    """

    had_biases: bool
    stored: MutableMapping[str, StoredTensor] = field(default_factory=dict)
    origins: MutableMapping[str, tuple[_Origin, ...]] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)

    def count(self, graph: Graph) -> tuple[Parameters, ...]:
        """The parameters of each node."""
        self.stored.update(graph.stored)
        self.origins.update({name: (_Origin(name),) for name in graph.stored})
        return tuple(map(self._node, graph.nodes))

    def _node(self, node: Node) -> Parameters:
        if node.bodies:
            return _sum([p for body in node.bodies for p in self._body(body)])
        if self.origins.keys().isdisjoint(node.inputs):
            return Parameters(folded_batch_norm=node.folded_batch_norm)
        if self._is_constant(node):
            return Parameters()
        weights: dict[str, int] = {}
        for index, origin in self._sources(node):
            if origin.name not in self.counted and self._is_weight(node, index, origin):
                weights.setdefault(origin.name, index)
        if not weights:
            return Parameters(folded_batch_norm=node.folded_batch_norm)
        self.counted.update(weights)
        return _parameters(node, weights, self.stored, had_biases=self.had_biases)

    def _body(self, graph: Graph) -> tuple[Parameters, ...]:
        """The same for a body, whose names may be those of other tensors in another body."""
        own: dict[str, StoredTensor] = {}
        inside = _Counter(
            self.had_biases, ChainMap(own, self.stored), ChainMap({}, self.origins), self.counted
        )
        parameters = inside.count(graph)
        self.counted.difference_update(own)
        return parameters

    def _is_constant(self, node: Node) -> bool:
        """Whether the node computes a constant; if so, where from is noted."""
        present = [name for name in node.inputs if name]
        if not present or any(name not in self.origins for name in present):
            return False
        if node.op_type == "ConstantOfShape":
            made = self._filled(node)
            self.stored[made.name] = made
            self.origins[made.name] = (_Origin(made.name),)
            return True
        read = present[:1] if node.op_type in _CARRIERS else present
        sources = tuple(dict.fromkeys(source for name in read for source in self.origins[name]))
        if node.op_type in _SCALERS and any(map(self._is_quantised, sources)):
            sources = tuple(filter(self._is_quantised, sources))
        if node.op_type in _DEQUANTISERS:
            sources = tuple(replace(source, quantised=True) for source in sources)
        self.origins.update(dict.fromkeys(node.outputs, sources))
        return True

    def _is_quantised(self, origin: _Origin) -> bool:
        return origin.quantised or self.stored[origin.name].dtype in _NARROW

    def _filled(self, node: Node) -> StoredTensor:
        """A weight that the file states as a shape and one value."""
        shape = self.stored[node.input(0)].values if node.input(0) in self.stored else None
        value = node.attributes.get("value")
        dtype = value.dtype if isinstance(value, StoredTensor) else "float32"
        dims = () if shape is None else tuple(max(int(dim), 0) for dim in shape.ravel())
        return StoredTensor(node.output, dtype, dims, takes_space=False)

    def _sources(self, node: Node) -> Iterator[tuple[int, _Origin]]:
        """The stored tensors from which the node's constant inputs come, with the input's index."""
        for index, name in enumerate(node.inputs):
            for source in self.origins.get(name, ()):
                yield index, source

    def _is_weight(self, node: Node, index: int, origin: _Origin) -> bool:
        tensor = self.stored[origin.name]
        if not tensor.takes_space:
            # Zeros and ones that are filled in elsewhere, as a mask, were not learned.
            return node.op_type in _WEIGHTED
        if node.op_type in QUANTISED_OPERANDS:
            return index in QUANTISED_OPERANDS[node.op_type]
        if node.op_type in _CONFIGURED or _is_neutral(node, index, tensor):
            return False
        if "float" not in tensor.dtype and not origin.quantised:
            # Where weights are needed, it came through a Cast.
            return node.op_type in _WEIGHTED and tensor.dtype in _NARROW
        return node.op_type in _WEIGHTED or prod(tensor.shape) > 1


def _is_neutral(node: Node, index: int, tensor: StoredTensor) -> bool:
    """Whether it is the scale or the shift of a BatchNormalization that learns none."""
    if node.op_type != "BatchNormalization" or index not in _NEUTRAL:
        return False
    if not _MADE_BY_EXPORTER.fullmatch(tensor.name):
        return False
    # Long ones are not read; a weight would have the name of its module.
    return tensor.values is None or set(tensor.values.ravel()) == {_NEUTRAL.get(index)}


def _count(graph: Graph, *, had_biases: bool) -> tuple[Parameters, ...]:
    return _Counter(had_biases).count(graph)


def _sum(parts: Sequence[Parameters]) -> Parameters:
    return Parameters(
        learnable=sum(part.learnable for part in parts),
        statistics=sum(part.statistics for part in parts),
        stored=sum(part.stored for part in parts),
        stored_bytes=sum(part.stored_bytes for part in parts),
        folded_batch_norm=any(part.folded_batch_norm for part in parts),
    )


def _parameters(
    node: Node,
    weights: Mapping[str, int],
    stored: Mapping[str, StoredTensor],
    *,
    had_biases: bool,
) -> Parameters:
    def count(names: Mapping[str, int]) -> int:
        return sum(_values(node, stored[name]) for name in names)

    statistics = {
        name: index
        for name, index in weights.items()
        if node.op_type == "BatchNormalization" and index in _STATISTICS_INPUTS
    }
    learnable = count(weights) - count(statistics)
    if node.folded_batch_norm:
        learnable += _unfolded_extra(node, stored, had_biases=had_biases)
    return Parameters(
        learnable=learnable,
        statistics=count(statistics),
        stored=count(weights),
        stored_bytes=sum(stored[name].stored_bytes for name in weights),
        folded_batch_norm=node.folded_batch_norm,
    )


def _values(node: Node, tensor: StoredTensor) -> int:
    """How many numbers of the float twin a stored tensor holds."""
    if node.op_type == "com.microsoft::MatMulNBits" and tensor.name == node.input(1):
        # Several to a byte, and padded.
        return int(node.attributes.get("N", 0)) * int(node.attributes.get("K", 0))
    return tensor.stored_count


def _unfolded_extra(node: Node, stored: Mapping[str, StoredTensor], *, had_biases: bool) -> int:
    """How many more parameters the network has where it trains its BatchNormalization unfolded.

    The BatchNormalization has a scale and a shift a channel. The bias in the file is the folding's
    work, unless there was one before: the exporter notes when it drops one of zeros.
    """
    weight = stored.get(node.input(1))
    if weight is None or not weight.shape:
        return 0
    channels = weight.shape[0]
    if node.op_type == "ConvTranspose":
        channels = weight.shape[1] * int(node.attributes.get("group", 1))
    if node.rewrites:
        had_biases = not node.rewrites[0].startswith(_DROPS_BIAS)
    biases_now = channels if node.input(2) in stored else 0
    return 2 * channels + (channels if had_biases else 0) - biases_now
