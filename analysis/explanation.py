"""Explanations: how the numbers of one layer come about."""

from dataclasses import dataclass
from math import prod

from convlens.analysis.clipping import Clipped, centre, clipped, corner
from convlens.analysis.derivation import Derivation, alike, derive
from convlens.analysis.interval import Interval
from convlens.analysis.kernel_stack import KernelStack, kernel_stack, windows_of
from convlens.analysis.layer import Layer
from convlens.analysis.parameters import Parameters
from convlens.analysis.report import Report
from convlens.analysis.shape import Dim, Shape, elements, fixed
from convlens.analysis.sliding_window import SlidingWindow, transposed_windows


@dataclass(frozen=True)
class OutputSize:
    """How the output's size follows from the input's along one axis, or several alike.

    Attributes:
        axes: their names, as "height".
        input_size: W.
        window: F, S, P, dilation and ceil_mode.
        output_size: O; None where W is symbolic.
        output_padding: what a ConvTranspose adds at the end; None for a window that slides along
            the input.
    """

    axes: tuple[str, ...]
    input_size: Dim
    window: SlidingWindow
    output_size: int | None
    output_padding: int | None = None


@dataclass(frozen=True)
class PathRange:
    """What branches of different strides see, along one axis or several alike.

    Attributes:
        axes: their names in the picture, as "height".
        paths: what a position sees over the paths of each stride, the narrowest first.
    """

    axes: tuple[str, ...]
    paths: tuple[Interval, ...]


@dataclass(frozen=True)
class DenseAlternative:
    """The layers between the same two maps that share no weights.

    Attributes:
        inputs: values of one input map, all channels.
        outputs: values of one output map, all channels.
        kernel_weights: that one output of the convolution reads.
    """

    inputs: int
    outputs: int
    kernel_weights: int

    @property
    def weights(self) -> int:
        """Of the fully connected layer: one for each pair of an input and an output."""
        return self.inputs * self.outputs

    @property
    def local_weights(self) -> int:
        """Of the locally connected layer, which has a kernel of its own at every position."""
        return self.outputs * self.kernel_weights


@dataclass(frozen=True)
class Explanation:
    """How the numbers of one layer come about.

    Attributes:
        layer: the one that is explained.
        output_sizes: one a spatial axis, or for all that are alike; empty where no window slides.
        views: what the units at the map's centre and corner see of the picture; empty where a size
            is not known or no window slides.
        derivations: one a spatial axis on which a path stays local, or for all that are alike.
        ranges: one a spatial axis on which the strides of the paths differ, or for all alike.
        parameter_terms: what is summed to the learnable parameters, as ("16 x 6 x 5 x 5 weights",
            2400).
        dense: None where the layer is no convolution or its maps' sizes are not known.
        stack: the stack of kernels that ends here; None where there is no such.
    """

    layer: Layer
    output_sizes: tuple[OutputSize, ...]
    derivations: tuple[Derivation, ...]
    ranges: tuple[PathRange, ...]
    views: tuple[tuple[str, Clipped], ...]
    parameter_terms: tuple[tuple[str, int], ...]
    dense: DenseAlternative | None
    stack: KernelStack | None


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
        derivations=derive(found, producers),
        ranges=_ranges(found),
        views=_views(found, report),
        parameter_terms=_parameter_terms(found),
        dense=_dense(found),
        stack=kernel_stack(found, producers),
    )


def _output_sizes(layer: Layer) -> tuple[OutputSize, ...]:
    if layer.op_type == "ConvTranspose":
        return _transposed_sizes(layer)
    windows = windows_of(layer) or ()
    sizes = (layer.input_shape() or ())[2:] if windows else ()
    return tuple(
        OutputSize(axes, size, window, window.output_size(size))
        for axes, (size, window) in alike(tuple(zip(sizes, windows, strict=False)))
    )


def _transposed_sizes(layer: Layer) -> tuple[OutputSize, ...]:
    data, weight, output = layer.input_shape(), layer.input_shape(1), layer.output_shape
    windows = transposed_windows(layer.attributes, data, weight, output) or ()
    padding = layer.attributes.get("output_padding") or (0,) * len(windows)
    sizes = tuple(zip((data or ())[2:], windows, padding, strict=False))
    return tuple(
        OutputSize(axes, size, window, window.transposed_output_size(size, extra), extra)
        for axes, (size, window, extra) in alike(sizes)
    )


def _ranges(layer: Layer) -> tuple[PathRange, ...]:
    ordered = [
        tuple(sorted(paths, key=lambda path: path.size)) for paths in layer.receptive_field.paths
    ]
    return tuple(PathRange(axes, paths) for axes, paths in alike(ordered) if len(paths) > 1)


def _views(layer: Layer, report: Report) -> tuple[tuple[str, Clipped], ...]:
    field = layer.receptive_field
    picture = report.picture_size
    size = (layer.output_shape or ())[2:] if windows_of(layer) else ()
    if not size or len(picture) != len(size) or any(isinstance(dim, str) for dim in size):
        return ()
    lengths = tuple(picture[axis] for axis in field.axes)
    units = (("centre", centre(fixed(size))), ("corner", corner(fixed(size))))
    views = ((name, clipped(field, lengths, unit)) for name, unit in units)
    return tuple((name, view) for name, view in views if view is not None)


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
    channels = (layer.output_shape or ("?", 0))[1]
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
    data, output = layer.input_shape(), layer.output_shape
    if data is None or output is None:
        return None
    maps = (*data[1:], *output[1:])
    if any(isinstance(dim, str) for dim in maps):
        return None
    weight = layer.input_shape(1)
    return DenseAlternative(
        inputs=prod(fixed(data[1:])),
        outputs=prod(fixed(output[1:])),
        kernel_weights=elements((weight or ())[1:]),
    )
