"""Transfer functions of the operators that turn blocks of channels into pixels and back."""

from collections.abc import Sequence
from dataclasses import replace

from convlens.analysis.field import Field
from convlens.analysis.regroup import regroup
from convlens.analysis.shape import Shape
from convlens.analysis.step import Step
from convlens.analysis.view import View


def depth_to_space(step: Step) -> Field:
    """DepthToSpace: blocks of channels become blocks of pixels."""
    field, shape, output = step.field(0), step.shape(0), step.output
    block = step.node.attributes.get("blocksize", 1)
    if field is None or shape is None or output is None or len(shape) != 4 or len(output) != 4:
        return step.unknown()
    batch, channels, height, width = shape
    if not isinstance(channels, int) or block < 1 or channels % block**2:
        return step.unknown()
    depth = channels // block**2
    if step.node.attributes.get("mode", "DCR") == "DCR":
        apart, order = (batch, block, block, depth, height, width), (0, 3, 4, 1, 5, 2)
    else:
        apart, order = (batch, depth, block, block, height, width), (0, 1, 4, 2, 5, 3)
    field = field.with_views(View.loosened) if field.is_blended else field
    return _dealt(step, field, apart, order, output)


def space_to_depth(step: Step) -> Field:
    """SpaceToDepth: blocks of pixels become blocks of channels."""
    field, shape, output = step.field(0), step.shape(0), step.output
    block = step.node.attributes.get("blocksize", 1)
    if field is None or shape is None or output is None or len(shape) != 4 or len(output) != 4:
        return step.unknown()
    batch, channels = shape[:2]
    apart = (batch, channels, output[2], block, output[3], block)
    return _dealt(step, field, apart, (0, 3, 5, 1, 2, 4), output)


def _dealt(step: Step, field: Field, apart: Shape, order: Sequence[int], output: Shape) -> Field:
    """A Reshape, a Transpose and a Reshape."""
    axes = regroup(field.axes, apart)
    together = axes and regroup([axes[axis] for axis in order], output)
    return replace(field, axes=together) if together else step.unknown()
