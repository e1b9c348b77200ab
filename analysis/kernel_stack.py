"""Stacks of small kernels, and the one large kernel that each of them replaces."""

from collections.abc import Mapping
from dataclasses import dataclass

from convlens.analysis.layer import Layer
from convlens.analysis.operators import COPIES, ELEMENTWISE
from convlens.analysis.shape import Shape, elements
from convlens.analysis.sliding_window import SlidingWindow, sliding_windows

_POINTWISE = ELEMENTWISE | COPIES | {"BatchNormalization"}


@dataclass(frozen=True)
class KernelStack:
    """Convolutions in a row, with nothing between them that looks at neighbours.

    Attributes:
        layers: the convolutions, in the order of execution.
        kernel: along each spatial axis what one convolution would need to see as much:
            1 + sum of (k' - 1) * stride, the stride being counted from the stack's input.
        weights: of the stack, biases left out.
        macs: of the stack; a symbolic dimension counts as 1.
        single_weights: of the one convolution, from the stack's input channels to its output's.
        single_macs: of the one convolution.

    Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
        recognition", ICLR 2015, section 2.3: three 3x3 take 27 C^2 weights, one 7x7 49 C^2.
    """

    layers: tuple[Layer, ...]
    kernel: tuple[int, ...]
    weights: int
    macs: int
    single_weights: int
    single_macs: int


def kernel_stack(layer: Layer, producers: Mapping[str, Layer]) -> KernelStack | None:
    """Find the stack of convolutions that ends with this layer.

    Args:
        layer: the last of the stack.
        producers: of every tensor, by name.

    Returns:
        None where fewer than two kernels larger than 1 follow each other, or a size is not known.
    """
    found: list[Layer] = []
    current: Layer | None = layer
    while current is not None and _is_dense_convolution(current):
        found.insert(0, current)
        current = _convolution_before(current, producers)
    while found and _largest_extent(found[0]) == 1:
        del found[0]
    if sum(_largest_extent(one) > 1 for one in found) < 2:
        return None
    return _priced(found)


def windows_of(layer: Layer) -> tuple[SlidingWindow, ...] | None:
    """How the layer's kernel slides, one window a spatial axis; None where it has no such."""
    if not layer.inputs or not layer.outputs:
        return None
    data, weight = layer.input_shape(), layer.input_shape(1)
    return sliding_windows(layer.op_type, layer.attributes, data, weight)


def _is_dense_convolution(layer: Layer) -> bool:
    return (
        layer.op_type == "Conv"
        and layer.attributes.get("group", 1) == 1
        and len(layer.inputs) > 1
        and all(isinstance(dim, int) for dim in layer.input_shape(1) or ("?",))
        and windows_of(layer) is not None
    )


def _convolution_before(layer: Layer, producers: Mapping[str, Layer]) -> Layer | None:
    """The convolution whose output reaches this one through pointwise layers of one input."""
    before = producers.get(layer.inputs[0].name)
    index = layer.index
    while before is not None and before.op_type in _POINTWISE and before.index < index:
        computed = {tensor.name for tensor in before.inputs if tensor.name in producers}
        if len(computed) != 1:
            return None
        index = before.index
        before = producers.get(computed.pop())
    return before if before is not None and before.index < index else None


def _largest_extent(layer: Layer) -> int:
    return max(window.extent for window in windows_of(layer) or ())


def _priced(layers: list[Layer]) -> KernelStack:
    rank = len(windows_of(layers[0]) or ())
    kernel, stride = [1] * rank, [1] * rank
    for layer in layers:
        for axis, window in enumerate(windows_of(layer) or ()):
            kernel[axis] += (window.extent - 1) * stride[axis]
            stride[axis] *= window.stride
    output: Shape = layers[-1].output_shape or ()
    single = (_weight(layers[-1])[0], _weight(layers[0])[1], *kernel)
    return KernelStack(
        layers=tuple(layers),
        kernel=tuple(kernel),
        weights=sum(elements(_weight(layer)) for layer in layers),
        macs=sum(layer.macs or 0 for layer in layers),
        single_weights=elements(single),
        single_macs=elements(output) * elements(single[1:]),
    )


def _weight(layer: Layer) -> Shape:
    """(out_channels, in_channels, *kernel)."""
    return layer.input_shape(1) or ()
