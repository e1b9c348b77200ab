"""Sliding windows: the geometry of Conv and pooling along one axis."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from typing import Any

from convlens.analysis.graph import Attributes
from convlens.analysis.shape import Dim, Shape

CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "QLinearConv"})
POOLINGS = frozenset({"AveragePool", "LpPool", "MaxPool"})


@dataclass(frozen=True)
class SlidingWindow:
    """How a kernel slides along one axis.

    Attributes:
        kernel: F, the number of taps.
        stride: S, how far it moves between two outputs.
        dilation: the distance between two taps.
        pad_begin: padding before the first position; None where it depends on a size not known.
        pad_end: padding after the last position; None where it depends on a size not known.
        ceil_mode: whether a last window that runs over the end is kept.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    pad_begin: int | None = 0
    pad_end: int | None = 0
    ceil_mode: bool = False

    @property
    def extent(self) -> int:
        """The positions from the first tap to the last, k' = dilation * (kernel - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def is_pointwise(self) -> bool:
        """Whether every output sees just the input at its own position."""
        return self.extent == 1 and self.stride == 1 and self.pad_begin == self.pad_end == 0

    def output_size(self, size: Dim) -> int | None:
        """O = floor((W - k' + P_begin + P_end) / S) + 1, the number of positions of the window.

        With ceil_mode the quotient is rounded up, unless the last window would start in the end
        padding.

        Args:
            size: W, the length of the input axis.

        Returns:
            O, below 1 where the padded input is shorter than the window; None where W is symbolic.

        Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016,
            relationships 6 and 15; for ceil_mode, PyTorch's pooling and ONNX's since opset 19.
        """
        if not isinstance(size, int) or self.pad_begin is None or self.pad_end is None:
            return None
        room = size + self.pad_begin + self.pad_end - self.extent
        if not self.ceil_mode:
            return room // self.stride + 1
        output = -(-room // self.stride) + 1
        starts_in_end_padding = (output - 1) * self.stride >= size + self.pad_begin
        return output - 1 if starts_in_end_padding else output

    def transposed_output_size(self, size: Dim, output_padding: int = 0) -> int | None:
        """O = S (W - 1) + k' - P_begin - P_end + output_padding, of a ConvTranspose.

        Args:
            size: W, the length of the input axis.
            output_padding: what is added at the end.

        Returns:
            None where W or the padding is not known.

        Source: Dumoulin and Visin, 2016, relationship 14; ONNX operator specification,
            ConvTranspose.
        """
        if not isinstance(size, int) or self.pad_begin is None or self.pad_end is None:
            return None
        padding = self.pad_begin + self.pad_end
        return self.stride * (size - 1) + self.extent - padding + output_padding


def sliding_windows(
    op_type: str, attributes: Attributes, data: Shape | None, weight: Shape | None
) -> tuple[SlidingWindow, ...] | None:
    """Read the windows of a Conv or pooling operator, one a spatial axis.

    Args:
        op_type: of the operator.
        attributes: kernel_shape, strides, pads, dilations, auto_pad, ceil_mode.
        data: the shape of the input, (batch, channels, *spatial).
        weight: of a Conv, (out_channels, in_channels / groups, *kernel); otherwise ignored.

    Returns:
        None where the operator has no such windows, or its kernel is not known or contradicts
        its other attributes.
    """
    kernel = attributes.get("kernel_shape")
    if op_type in CONVOLUTIONS:
        kernel = kernel or (weight and weight[2:])
    elif op_type not in POOLINGS:
        return None
    numbers = _numbers(attributes, kernel)
    if numbers is None:
        return None
    rank = len(numbers[0])
    if data is not None and len(data) != rank + 2:
        return None
    auto_pad = attributes.get("auto_pad") or "NOTSET"
    ceil_mode = bool(attributes.get("ceil_mode", 0))
    # Only this padding depends on the size.
    sizes = ("?",) * rank if data is None or not auto_pad.startswith("SAME") else data[2:]
    return _windows(*numbers, auto_pad, tuple(sizes), ceil_mode=ceil_mode)


def _numbers(
    attributes: Attributes, kernel: Any
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
    """Kernel, strides, dilations and pads; None where unknown or contradicting each other."""
    if not kernel:
        return None
    rank = len(kernel)
    strides = attributes.get("strides") or (1,) * rank
    dilations = attributes.get("dilations") or (1,) * rank
    pads = attributes.get("pads") or (0,) * 2 * rank
    if not len(strides) == len(dilations) == len(pads) / 2 == rank:
        return None
    if not all(isinstance(number, int) for number in (*kernel, *strides, *dilations, *pads)):
        return None
    if min(*kernel, *strides, *dilations) < 1:
        return None
    return tuple(kernel), tuple(strides), tuple(dilations), tuple(pads)


@lru_cache(maxsize=1024)  # a pure function; networks repeat their blocks
def _windows(
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    auto_pad: str,
    sizes: Shape,
    *,
    ceil_mode: bool,
) -> tuple[SlidingWindow, ...]:
    windows = []
    for axis, (taps, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        window = SlidingWindow(
            taps, stride, dilation, pads[axis], pads[axis + len(kernel)], ceil_mode
        )
        windows.append(_auto_padded(window, auto_pad, sizes[axis]))
    return tuple(windows)


def _auto_padded(window: SlidingWindow, auto_pad: str, size: Dim) -> SlidingWindow:
    """Replace the pads by what auto_pad asks for; SAME gives O = ceil(W / S)."""
    if auto_pad == "NOTSET":
        return window
    begin: int | None = 0
    end: int | None = 0
    if auto_pad.startswith("SAME"):
        total = _same_padding(window, size)
        begin = end = None
        if total is not None:
            less, more = total // 2, total - total // 2
            begin, end = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    ceil_mode = window.ceil_mode and auto_pad == "VALID"
    return SlidingWindow(window.kernel, window.stride, window.dilation, begin, end, ceil_mode)


def _same_padding(window: SlidingWindow, size: Dim) -> int | None:
    if isinstance(size, int):
        output = ceil(size / window.stride)
        return max((output - 1) * window.stride + window.extent - size, 0)
    # With stride 1 the padding is the same for every size.
    return window.extent - 1 if window.stride == 1 else None


def transposed_windows(
    attributes: Attributes, data: Shape | None, weight: Shape | None, output: Shape | None
) -> tuple[SlidingWindow, ...] | None:
    """Read the windows that a ConvTranspose slides along its output, one a spatial axis.

    Args:
        attributes: kernel_shape, strides, pads, dilations, auto_pad, output_shape, output_padding.
        data: the shape of the input, (batch, channels, *spatial).
        weight: (in_channels, out_channels / groups, *kernel).
        output: its shape, which tells the padding where the attributes do not.

    Returns:
        None where the kernel is not known or contradicts the other attributes.
    """
    numbers = _numbers(attributes, attributes.get("kernel_shape") or (weight and weight[2:]))
    if numbers is None:
        return None
    kernel, strides, dilations, pads = numbers
    rank = len(kernel)
    extra = attributes.get("output_padding") or (0,) * rank
    if len(extra) != rank:
        return None
    windows = []
    for axis, (taps, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        window = SlidingWindow(taps, stride, dilation, pads[axis], pads[axis + rank])
        size, made = (
            shape[axis + 2] if shape and len(shape) > axis + 2 else "?" for shape in (data, output)
        )
        windows.append(_transposed_padding(window, attributes, extra[axis], size, made))
    return tuple(windows)


def _transposed_padding(
    window: SlidingWindow, attributes: Attributes, extra: int, size: Dim, output: Dim
) -> SlidingWindow:
    """Work the padding out from the output's size where the attributes do not state it."""
    auto_pad = attributes.get("auto_pad") or "NOTSET"
    if auto_pad == "VALID":
        return replace(window, pad_begin=0, pad_end=0)
    if auto_pad == "NOTSET" and not attributes.get("output_shape"):
        return window
    if not isinstance(size, int) or not isinstance(output, int):
        return replace(window, pad_begin=None, pad_end=None)
    total = max(window.stride * (size - 1) + extra + window.extent - output, 0)
    less, more = total // 2, total - total // 2
    begin, end = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    return replace(window, pad_begin=begin, pad_end=end)
