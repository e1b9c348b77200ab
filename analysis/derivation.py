"""Derivations: how a receptive field has grown from the pixel, layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from convlens.analysis.kernel_stack import windows_of
from convlens.analysis.layer import Layer
from convlens.analysis.number import Number

T = TypeVar("T")

_AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True)
class Growth:
    """What one layer adds to the receptive field.

    Attributes:
        layer: the one that adds; None for the pixel that the derivation starts from.
        extent: k' of its window; None where it has none.
        stride: of its input, in pixels.
        added: in pixels; (k' - 1) * stride for a window, and at a merge what the other branch sees
            beyond the one that is followed.
        size: of the receptive field after the layer.
        stride_after: of its output, in pixels.
    """

    layer: Layer | None
    extent: int | None
    stride: Number
    added: Number
    size: Number
    stride_after: Number


@dataclass(frozen=True)
class Derivation:
    """How the receptive field has grown from the pixel to the layer, along one axis or several.

    Attributes:
        axes: their names in the picture, as "height".
        growths: those layers of the deciding path that change size or stride; `added` sums up to
            the last size less one.
    """

    axes: tuple[str, ...]
    growths: tuple[Growth, ...]


def alike(per_axis: Sequence[T]) -> list[tuple[tuple[str, ...], T]]:
    """The distinct values among those of the axes, each with the names of its axes."""
    names = _AXIS_NAMES.get(len(per_axis), tuple(f"axis {i}" for i in range(len(per_axis))))
    distinct = [value for i, value in enumerate(per_axis) if value not in per_axis[:i]]
    return [
        (tuple(name for name, other in zip(names, per_axis, strict=True) if other == value), value)
        for value in distinct
    ]


def derive(layer: Layer, producers: Mapping[str, Layer]) -> tuple[Derivation, ...]:
    """Derive what the layer sees, on each spatial axis or for all that are alike.

    Args:
        layer: the one that is explained.
        producers: of every tensor, by name.
    """
    local = [_sees(layer, image_axis) for image_axis in range(len(layer.receptive_field.axes))]
    growths = [
        _growths(layer, producers, image_axis) if sees is not None else ()
        for image_axis, sees in enumerate(local)
    ]
    return tuple(Derivation(axes, same) for axes, same in alike(growths) if same)


def _sees(layer: Layer | None, image_axis: int) -> tuple[Number, Number] | None:
    """The size and stride of what the layer sees along an axis of the picture.

    The picture itself, which no layer makes, sees one pixel; None where no path is local.
    """
    if layer is None:
        return 1, 1
    field = layer.receptive_field
    if field.size is None or field.stride is None or image_axis not in field.axes:
        return None
    entry = field.axes.index(image_axis)
    size, stride = field.size[entry], field.stride[entry]
    return None if size is None or stride is None else (size, stride)


def _growths(layer: Layer, producers: Mapping[str, Layer], image_axis: int) -> tuple[Growth, ...]:
    """Walk back along the input that sees most; what a layer adds to it is its growth."""
    growths: list[Growth] = []
    current: Layer | None = layer
    while current is not None:
        before = _widest_producer(current, producers, image_axis)
        sees, saw = _sees(current, image_axis), _sees(before, image_axis)
        assert sees is not None
        assert saw is not None
        if sees != saw:
            (size, stride_after), (size_before, stride) = sees, saw
            extent = _extent(current, image_axis)
            growths.append(Growth(current, extent, stride, size - size_before, size, stride_after))
        current = before
    pixel = Growth(layer=None, extent=None, stride=1, added=0, size=1, stride_after=1)
    return (pixel, *reversed(growths))


def _extent(layer: Layer, image_axis: int) -> int | None:
    """The k' of the window that the layer slides along an axis of the picture."""
    windows = windows_of(layer) or ()
    entry = layer.receptive_field.axes.index(image_axis)
    return windows[entry].extent if entry < len(windows) else None


def _widest_producer(layer: Layer, producers: Mapping[str, Layer], image_axis: int) -> Layer | None:
    """The layer before this one that sees most; None where the image itself is the input."""
    widest: Layer | None = None
    largest: Number = 0
    for tensor in layer.inputs:
        before = producers.get(tensor.name)
        if before is None or before.index >= layer.index:
            continue
        sees = _sees(before, image_axis)
        if sees is not None and sees[0] > largest:
            widest, largest = before, sees[0]
    return widest
