"""Parameters: which stored tensors are weights, and which node each of them belongs to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from convlens.analysis.graph import Graph, Node, StoredTensor

# Operators whose every floating-point input is a weight, a single number included.
_WEIGHTED = frozenset({
    "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "GroupNormalization",
    "InstanceNormalization", "LayerNormalization", "MatMul", "PRelu", "RMSNormalization",
})  # fmt: skip

# Operators whose constant inputs say what to do, and were not learned.
_CONFIGURED = frozenset({
    "Clip", "ConstantOfShape", "DequantizeLinear", "OneHot", "Pad", "Pow", "QuantizeLinear",
    "Range", "Resize", "Upsample",
})  # fmt: skip

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
    Reshape) and single numbers (the 0.5 of a Mul) are no parameters.

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


def _count(graph: Graph, *, had_biases: bool) -> tuple[Parameters, ...]:
    origins: dict[str, tuple[str, ...]] = {name: (name,) for name in graph.stored}
    counted: set[str] = set()
    parameters = []
    for node in graph.nodes:
        present = [name for name in node.inputs if name]
        if present and all(name in origins for name in present):
            sources = tuple(dict.fromkeys(source for name in present for source in origins[name]))
            origins.update(dict.fromkeys(node.outputs, sources))
            parameters.append(Parameters())
            continue
        weights = {
            source: index
            for index, source in _sources(node, origins)
            if source not in counted and _is_weight(node, graph.stored[source])
        }
        counted.update(weights)
        parameters.append(_parameters(node, weights, graph.stored, had_biases=had_biases))
    return tuple(parameters)


def _sources(node: Node, origins: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[int, str]]:
    """The stored tensors from which the node's constant inputs come, with the input's index."""
    for index, name in enumerate(node.inputs):
        for source in origins.get(name, ()):
            yield index, source


def _is_weight(node: Node, tensor: StoredTensor) -> bool:
    if node.op_type in _CONFIGURED or "float" not in tensor.dtype:
        return False
    return node.op_type in _WEIGHTED or (tensor.tensor.elements or 0) > 1


def _parameters(
    node: Node,
    weights: Mapping[str, int],
    stored: Mapping[str, StoredTensor],
    *,
    had_biases: bool,
) -> Parameters:
    def count(names: Mapping[str, int]) -> int:
        return sum(stored[name].tensor.elements or 0 for name in names)

    statistics = {
        name: index
        for name, index in weights.items()
        if node.op_type == "BatchNormalization" and index in _STATISTICS_INPUTS
    }
    learnable = count(weights) - count(statistics)
    if node.folded_batch_norm and weights:
        learnable += _unfolded_extra(node, stored, had_biases=had_biases)
    return Parameters(
        learnable=learnable,
        statistics=count(statistics),
        stored=count(weights),
        stored_bytes=sum(stored[name].tensor.bytes or 0 for name in weights),
        folded_batch_norm=node.folded_batch_norm,
    )


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
