"""Explanations: how the numbers of one layer come about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

from convlens.analysis.interval import Number
from convlens.analysis.parameters import Parameters
from convlens.analysis.report import Layer, Report
from convlens.analysis.shape import Dim, Shape, elements, fixed
from convlens.analysis.sliding_window import SlidingWindow, sliding_windows

T = TypeVar("T")

_AXIS_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


@dataclass(frozen=True)
class OutputSize:
    """How the output's size follows from the input's along one axis, or several alike.

    Attributes:
        axes: their names, as "height".
        input_size: W.
        window: F, S, P, dilation and ceil_mode.
        output_size: O; None where W is symbolic.
    """

    axes: tuple[str, ...]
    input_size: Dim
    window: SlidingWindow
    output_size: int | None


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
        axes: their names, as "height".
        growths: those layers of the deciding path that change size or stride; `added` sums up to
            the last size less one.
    """

    axes: tuple[str, ...]
    growths: tuple[Growth, ...]


@dataclass(frozen=True)
class DenseAlternative:
    """The fully connected layer between the same two maps.

    Attributes:
        inputs: values of one input map, all channels.
        outputs: values of one output map, all channels.
    """

    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        """One for each pair of an input and an output."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Explanation:
    """How the numbers of one layer come about.

    Attributes:
        layer: the one that is explained.
        output_sizes: one a spatial axis, or for all that are alike; empty where no window slides.
        derivations: one a spatial axis on which a path stays local, or for all that are alike.
        parameter_terms: what is summed to the learnable parameters, as ("16 x 6 x 5 x 5 weights",
            2400).
        dense: None where the layer is no convolution or its maps' sizes are not known.
    """

    layer: Layer
    output_sizes: tuple[OutputSize, ...]
    derivations: tuple[Derivation, ...]
    parameter_terms: tuple[tuple[str, int], ...]
    dense: DenseAlternative | None


def explain(report: Report, layer: str) -> Explanation:
    """Explain the numbers of one layer.

    Args:
        report: of the model.
        layer: its name, the name of one of its outputs, its scope, or its index.

    Raises:
        LayerNotFoundError: there is no such layer.
    """
    found = report.layer(layer)
    producers = {tensor.name: maker for maker in report.layers for tensor in maker.outputs}
    return Explanation(
        layer=found,
        output_sizes=_output_sizes(found),
        derivations=_derivations(found, producers),
        parameter_terms=_parameter_terms(found),
        dense=_dense(found),
    )


def _windows(layer: Layer) -> tuple[SlidingWindow, ...] | None:
    data, weight = (*(tensor.shape for tensor in layer.inputs), None, None)[:2]
    return sliding_windows(layer.op_type, layer.attributes, data, weight)


def _alike(per_axis: Sequence[T]) -> list[tuple[tuple[str, ...], T]]:
    """The distinct values among those of the axes, each with the names of its axes."""
    names = _AXIS_NAMES.get(len(per_axis), tuple(f"axis {i}" for i in range(len(per_axis))))
    distinct = [value for i, value in enumerate(per_axis) if value not in per_axis[:i]]
    return [
        (tuple(name for name, other in zip(names, per_axis, strict=True) if other == value), value)
        for value in distinct
    ]


def _output_sizes(layer: Layer) -> tuple[OutputSize, ...]:
    windows = _windows(layer) or ()
    sizes = (layer.inputs[0].shape or ())[2:] if windows else ()
    return tuple(
        OutputSize(axes, size, window, window.output_size(size))
        for axes, (size, window) in _alike(tuple(zip(sizes, windows, strict=False)))
    )


def _size(layer: Layer, axis: int) -> Number | None:
    sizes = layer.receptive_field.size
    return sizes[axis] if sizes and axis < len(sizes) else None


def _stride(layer: Layer, axis: int) -> Number | None:
    strides = layer.receptive_field.stride
    return strides[axis] if strides and axis < len(strides) else None


def _derivations(layer: Layer, producers: Mapping[str, Layer]) -> tuple[Derivation, ...]:
    sizes = layer.receptive_field.size or ()
    growths = [
        _derive(layer, producers, axis) if size is not None else ()
        for axis, size in enumerate(sizes)
    ]
    return tuple(Derivation(axes, same) for axes, same in _alike(growths) if same)


def _derive(layer: Layer, producers: Mapping[str, Layer], axis: int) -> tuple[Growth, ...]:
    """Walk back along the input that sees most; what a layer adds to it is its growth."""
    growths: list[Growth] = []
    current: Layer | None = layer
    while current is not None:
        before = _widest_producer(current, producers, axis)
        size, stride = _size(current, axis), _stride(current, axis)
        size_before = _size(before, axis) if before else 1
        stride_before = _stride(before, axis) if before else 1
        assert size is not None
        assert stride is not None
        assert size_before is not None
        assert stride_before is not None
        if (size, stride) != (size_before, stride_before):
            windows = _windows(current)
            extent = windows[axis].extent if windows and axis < len(windows) else None
            added = size - size_before
            growths.append(Growth(current, extent, stride_before, added, size, stride))
        current = before
    pixel = Growth(layer=None, extent=None, stride=1, added=0, size=1, stride_after=1)
    return (pixel, *reversed(growths))


def _widest_producer(layer: Layer, producers: Mapping[str, Layer], axis: int) -> Layer | None:
    """The layer before this one that sees most; None where the image itself is the input."""
    widest: Layer | None = None
    largest: Number = 0
    for tensor in layer.inputs:
        before = producers.get(tensor.name)
        if before is not None and before.index >= layer.index:
            continue
        size = _size(before, axis) if before else None
        if size is not None and size > largest and before is not None:
            widest, largest = before, size
    return widest


def _parameter_terms(layer: Layer) -> tuple[tuple[str, int], ...]:
    """The sum that gives the learnable parameters, a term for each stored weight."""
    parameters = layer.parameters
    shapes = [tensor.shape for tensor in layer.inputs[1:] if tensor.name and tensor.shape]
    if parameters.learnable == 0 or not shapes:
        return ()
    if parameters.folded_batch_norm:
        return _folded_terms(layer, shapes[0], parameters)
    names = _WEIGHT_NAMES.get(layer.op_type, ())
    named = [
        (f"{_product(shape)} {name}", elements(shape))
        for shape, name in zip(shapes, names, strict=False)
    ]
    if sum(count for _, count in named) == parameters.learnable:
        return tuple(named)
    return ((f"{parameters.learnable:,} in stored weights", parameters.learnable),)


_WEIGHT_NAMES = {
    "BatchNormalization": ("scales", "shifts"),
    "Conv": ("weights", "biases"),
    "ConvTranspose": ("weights", "biases"),
    "Gemm": ("weights", "biases"),
    "GroupNormalization": ("scales", "shifts"),
    "InstanceNormalization": ("scales", "shifts"),
    "LayerNormalization": ("scales", "shifts"),
    "MatMul": ("weights",),
    "PRelu": ("slopes",),
}


def _folded_terms(
    layer: Layer, weight: Shape, parameters: Parameters
) -> tuple[tuple[str, int], ...]:
    weights = elements(weight)
    extra = parameters.learnable - weights
    channels = (layer.outputs[0].shape or ("?", 0))[1]
    terms = [(f"{_product(weight)} weights", weights)]
    if extra != 2 * elements((channels,)):
        terms.append(("biases", extra - 2 * elements((channels,))))
        extra = 2 * elements((channels,))
    terms.append((f"2 x {channels} scales and shifts of the folded BatchNormalization", extra))
    return tuple(terms)


def _product(shape: Shape) -> str:
    return " x ".join(str(dim) for dim in shape)


def _dense(layer: Layer) -> DenseAlternative | None:
    if layer.op_type != "Conv" or not layer.inputs or not layer.outputs:
        return None
    data, output = layer.inputs[0].shape, layer.outputs[0].shape
    if data is None or output is None:
        return None
    maps = (*data[1:], *output[1:])
    if any(isinstance(dim, str) for dim in maps):
        return None
    return DenseAlternative(inputs=prod(fixed(data[1:])), outputs=prod(fixed(output[1:])))
