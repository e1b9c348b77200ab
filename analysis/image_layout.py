"""Image layout: which axes of an input are the batch, and height and width."""

from collections.abc import Sequence
from dataclasses import dataclass

from convlens.analysis.graph import Graph, Node
from convlens.analysis.operators import COPIES, ELEMENTWISE, GLOBAL_POOLINGS, SHAPE_ARITHMETIC
from convlens.analysis.sliding_window import CONVOLUTIONS, POOLINGS

# A picture has at least channels and two spatial axes, or a batch, channels and one.
MIN_PICTURE_RANK = 3

# They take (batch, channels, *spatial), whatever the file says of its input.
_OF_PICTURES = (
    CONVOLUTIONS
    | POOLINGS
    | GLOBAL_POOLINGS
    | {"BatchNormalization", "ConvTranspose", "DepthToSpace", "InstanceNormalization", "LRN"}
    | {"SpaceToDepth"}
)
# Beside the elementwise ones, operators that leave every axis in its place.
_IN_PLACE = ELEMENTWISE | COPIES | {"Concat", "Pad", "Resize", "Slice", "Upsample"}

# For each axis of a tensor the axis of the input that it is; None for a new one.
_Order = tuple[int | None, ...]


@dataclass(frozen=True)
class ImageLayout:
    """What the axes of an input are.

    Attributes:
        batch: the axis of the batch; None where the input is one picture.
        spatial: the spatial axes.
    """

    batch: int | None
    spatial: tuple[int, ...]


def image_layout(name: str, rank: int, graph: Graph) -> ImageLayout | None:
    """Tell the axes of an image by the first operator that takes pictures.

    The input's axes are followed to it, so that channels may be last, as tf2onnx has it, or the
    batch be missing, as detectors take one picture. Where they are lost on the way, the order in
    which they were last counts if channels have come from the end or a batch to the front.

    Args:
        name: of the graph's input.
        rank: of the input.
        graph: that reads it.

    Returns:
        None for an input of too few axes to be an image.
    """
    if rank < MIN_PICTURE_RANK:
        return None
    as_given: _Order = tuple(range(rank))
    orders = {name: as_given}
    order = as_given
    for node in graph.nodes:
        source = next((orders[tensor] for tensor in node.inputs if tensor in orders), None)
        if source is None or node.op_type in SHAPE_ARITHMETIC:
            continue
        if node.op_type in _OF_PICTURES and len(source) >= MIN_PICTURE_RANK:
            return _layout(source)
        moved = _moved(node, source, graph)
        if moved is None:
            break
        orders.update(dict.fromkeys(node.outputs, moved))
        order = moved
    telling = len(order) >= MIN_PICTURE_RANK and (order[0] is None or order[1] == rank - 1)
    return _layout(order if telling else as_given)


def _layout(order: _Order) -> ImageLayout:
    return ImageLayout(order[0], tuple(sorted(axis for axis in order[2:] if axis is not None)))


def _moved(node: Node, order: _Order, graph: Graph) -> _Order | None:
    """The order of the axes behind an operator; None where it is lost."""
    if node.op_type in _IN_PLACE:
        stored = [graph.stored[name].shape for name in node.inputs if name in graph.stored]
        broadcast = max(map(len, stored), default=0) if node.op_type in ELEMENTWISE else 0
        return (None,) * (broadcast - len(order)) + order
    if node.op_type == "Transpose":
        perm: Sequence[int] = node.attributes.get("perm") or range(len(order))[::-1]
        return tuple(order[axis] for axis in perm) if set(perm) == set(range(len(order))) else None
    if node.op_type == "Unsqueeze":
        return _unsqueezed(node, order, graph)
    return None


def _unsqueezed(node: Node, order: _Order, graph: Graph) -> _Order | None:
    stored = graph.stored.get(node.input(1))
    values = None if stored is None else stored.values
    axes: Sequence[int] | None = node.attributes.get("axes") if values is None else values.ravel()
    rank = len(order) + len(axes or ())
    if not axes or not all(-rank <= axis < rank for axis in axes):
        return None
    new = {axis % rank for axis in axes}.intersection(range(rank))
    if len(new) < len(axes):  # one is there twice, or is no integer
        return None
    rest = iter(order)
    return tuple(None if axis in new else next(rest) for axis in range(rank))
