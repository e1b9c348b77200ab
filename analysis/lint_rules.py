"""The rules of the lint: one small function each, and the table of them at the end."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import prod

from convlens.analysis.coverage import trace_coverage
from convlens.analysis.kernel_stack import windows_of
from convlens.analysis.layer import Layer
from convlens.analysis.linter import Problem, Rule, Subject
from convlens.analysis.number import Number
from convlens.analysis.sliding_window import CONVOLUTIONS, SlidingWindow

_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def unproductive_layers(subject: Subject) -> Iterable[Problem]:
    """Convolutions that widen a receptive field which covers the picture already.

    It is judged on the path that sees least, as a shorter path may still bring something new.
    """
    picture = subject.report.picture_size
    if not picture:
        return
    narrowest: dict[int, tuple[Number, ...] | None] = {}
    for layer in subject.report.layers:
        before = _narrowest_before(layer, subject, narrowest)
        narrowest[layer.index] = _widened(layer, before)
        windows = windows_of(layer)
        if layer.op_type not in CONVOLUTIONS or not windows or before is None:
            continue
        covers = len(before) == len(picture) and all(
            size > length for size, length in zip(before, picture, strict=True)
        )
        if covers and max(window.extent for window in windows) > 1:
            yield (
                layer,
                f"its input sees {_sizes(before)} pixels on every path, and the picture has "
                f"{_sizes(picture)}",
            )


def strides_beyond_the_kernel(subject: Subject) -> Iterable[Problem]:
    """Windows that step over positions, so that these are computed and never read."""
    for layer, windows in _windowed(subject):
        skipped = [window for window in windows if window.stride > window.extent]
        if skipped:
            read = prod(min(window.extent / window.stride, 1) for window in windows)
            yield (
                layer,
                f"stride {_along(windows, 'stride')} is larger than the kernel's extent "
                f"{_along(windows, 'extent')}: {1 - read:.0%} of its input is never read",
            )


def dilation_gridding(subject: Subject) -> Iterable[Problem]:
    """Dilated convolutions whose taps, taken together, leave holes between them."""
    coverage = trace_coverage(subject)
    for layer, windows in _windowed(subject):
        covered = coverage.get(layer.index, ())
        gaps = [
            seen
            for seen, window in zip(covered, windows, strict=False)
            if window.dilation > 1 and seen is not None and seen.holes
        ]
        if gaps:
            worst = max(gaps, key=lambda seen: seen.holes)
            yield (
                layer,
                f"with dilation {_along(windows, 'dilation')} it reads "
                f"{worst.size - worst.holes} of the {worst.size} positions that it spans since "
                "the map's size last changed, on every path",
            )


def aliasing(subject: Subject) -> Iterable[Problem]:
    """Downsampling that is not preceded by a low-pass filter.

    Average pooling is one. A strided depthwise Conv without a bias is taken for a fixed blur.
    """
    for layer, windows in _windowed(subject):
        if max(window.stride for window in windows) == 1 or layer.op_type == "AveragePool":
            continue
        if not _is_blur(layer, subject):
            yield (
                layer,
                f"{layer.op_type} keeps one position in {_along(windows, 'stride')} with no "
                "low-pass filter before it, so that small shifts of the picture change its output",
            )


def lost_borders(subject: Subject) -> Iterable[Problem]:
    """Odd sizes under a stride: the last row or column is read by no window."""
    for layer, windows in _windowed(subject):
        sizes = (layer.input_shape() or ())[2:]
        names = _AXES.get(len(windows), ())
        for name, size, window in zip(names, sizes, windows, strict=False):
            output = window.output_size(size)
            if not isinstance(size, int) or output is None or window.pad_begin is None:
                continue
            stop = (output - 1) * window.stride + window.extent - window.pad_begin
            if window.stride > 1 and 0 < stop < size and window.extent >= window.stride:
                yield (
                    layer,
                    f"{size - stop} of the {size} positions along the {name} are lost: no window "
                    f"of extent {window.extent} and stride {window.stride} reaches the border",
                )


def shifting_kernels(subject: Subject) -> Iterable[Problem]:
    """Even kernels with stride 1: the output's grid lies half a position beside the input's."""
    for layer, windows in _windowed(subject):
        if any(window.stride == 1 and window.extent % 2 == 0 for window in windows):
            yield (
                layer,
                f"the kernel's extent {_along(windows, 'extent')} is even: its output lies half a "
                "position beside its input",
            )


def misaligned_branches(subject: Subject) -> Iterable[Problem]:
    """The places where branches meet that look at different places."""
    for layer in subject.report.layers:
        before = subject.before(layer)
        if not layer.receptive_field.aligned and all(b.receptive_field.aligned for b in before):
            branches = [b for b in before if b.receptive_field.size is not None]
            sizes = ", ".join(str(_first(b.receptive_field.size)) for b in branches)
            strides = ", ".join(str(_first(b.receptive_field.stride)) for b in branches)
            starts = ", ".join(str(_first(b.receptive_field.start)) for b in branches)
            yield (
                layer,
                f"its branches are centred on different pixels (they see {sizes or 1} pixels at "
                f"stride {strides or 1} from {starts or 0} on)",
            )


def unused_weights(subject: Subject) -> Iterable[Problem]:
    """Stored tensors that only make the file larger."""
    for name in subject.report.unused_initializers:
        yield None, f"the initializer {name} is read by nothing"


def unfused_batch_norms(subject: Subject) -> Iterable[Problem]:
    """BatchNormalizations right behind a Conv, which could hold their scale and shift."""
    for layer in subject.report.layers:
        if layer.op_type != "BatchNormalization":
            continue
        for before in subject.before(layer):
            outputs = [tensor.name for tensor in before.outputs]
            if before.op_type == "Conv" and subject.consumers.get(outputs[0]) == (layer,):
                yield layer, f"it can be folded into the weights of {before.name}"


def double_weights(subject: Subject) -> Iterable[Problem]:
    """Weights of 64 bits."""
    fed = {tensor.name for tensor in subject.report.inputs}
    for layer in subject.report.layers:
        stored = [
            tensor
            for tensor in layer.inputs
            if tensor.dtype == "float64"
            and tensor.name not in fed
            and tensor.name not in subject.producers
            and (tensor.elements or 0) > 1
        ]
        if stored:
            yield layer, f"its weights are float64: {', '.join(tensor.name for tensor in stored)}"


def fixed_batch(subject: Subject) -> Iterable[Problem]:
    """Inputs whose first dimension is a number in the file."""
    for tensor in subject.report.declared_inputs:
        shape = tensor.shape or ()
        if tensor.name in subject.report.single_pictures:
            yield None, f"the input {tensor.name} is one picture, without a batch"
        elif len(shape) > 1 and isinstance(shape[0], int):
            yield None, f"the input {tensor.name} takes batches of {shape[0]} and no other"


RULES = (
    Rule(
        "unproductive-layer",
        "warning",
        "Richter, Schöning, Wiedenroth, Krumnack, Should You Go Deeper?, ICMLA 2021",
        unproductive_layers,
    ),
    Rule(
        "stride-exceeds-kernel",
        "warning",
        "He et al., Bag of Tricks for Image Classification, CVPR 2019, section 4",
        strides_beyond_the_kernel,
    ),
    Rule(
        "dilation-gridding",
        "warning",
        "Wang et al., Understanding Convolution for Semantic Segmentation, WACV 2018",
        dilation_gridding,
    ),
    Rule(
        "misaligned-branches",
        "warning",
        "Araujo, Norris, Sim, Computing Receptive Fields of CNNs, Distill 2019",
        misaligned_branches,
    ),
    Rule(
        "unused-initializer",
        "warning",
        "ONNX IR specification, Graphs: initializers are inputs or constants of nodes",
        unused_weights,
    ),
    Rule(
        "unfused-batch-norm",
        "warning",
        "Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, section 3.2",
        unfused_batch_norms,
    ),
    Rule(
        "float64-weights",
        "warning",
        "Micikevicius et al., Mixed Precision Training, ICLR 2018: 16 bits are enough",
        double_weights,
    ),
    Rule(
        "aliasing",
        "info",
        "Zhang, Making Convolutional Networks Shift-Invariant Again, ICML 2019",
        aliasing,
    ),
    Rule(
        "lost-border",
        "info",
        "Dumoulin, Visin, A Guide to Convolution Arithmetic, 2016, section 2.4",
        lost_borders,
    ),
    Rule(
        "even-kernel-shift",
        "info",
        "Wu et al., Convolution with Even-Sized Kernels and Symmetric Padding, NeurIPS 2019",
        shifting_kernels,
    ),
    Rule(
        "fixed-batch",
        "info",
        "ONNX Runtime documentation: a server cannot batch requests to it",
        fixed_batch,
    ),
)


def _windowed(subject: Subject) -> Iterator[tuple[Layer, tuple[SlidingWindow, ...]]]:
    """The layers through which a window slides, with their windows."""
    for layer in subject.report.layers:
        windows = windows_of(layer)
        if windows:
            yield layer, windows


def _narrowest_before(
    layer: Layer, subject: Subject, narrowest: dict[int, tuple[Number, ...] | None]
) -> tuple[Number, ...] | None:
    """What the layer's inputs see at least, over its local paths; None where none is local."""
    fed = {tensor.name for tensor in subject.report.inputs}
    rank = len(layer.receptive_field.axes)
    known = [narrowest.get(before.index) for before in subject.before(layer)]
    paths = [sizes for sizes in known if sizes is not None and len(sizes) == rank]
    if any(tensor.name in fed for tensor in layer.inputs):
        paths.append((1,) * rank)
    return tuple(map(min, zip(*paths, strict=True))) if paths else None


def _widened(layer: Layer, before: tuple[Number, ...] | None) -> tuple[Number, ...] | None:
    """What the layer sees at least, its inputs seeing at least `before`."""
    sees = layer.receptive_field
    if before is None or sees.size is None or sees.stride is None or None in sees.size:
        return None
    windows = windows_of(layer)
    if windows is None or len(windows) != len(before):
        return before
    return tuple(
        size + (window.extent - 1) * Fraction(stride or 1) / window.stride
        for size, stride, window in zip(before, sees.stride, windows, strict=True)
    )


def _is_blur(layer: Layer, subject: Subject) -> bool:
    """Whether it is a depthwise Conv that was hardly trained: it has neither bias nor norm."""
    if layer.op_type != "Conv" or len(layer.inputs) != 2:
        return False
    channels = (layer.input_shape() or (0, 0))[1]
    after = subject.consumers.get(layer.outputs[0].name, ())
    normed = layer.parameters.folded_batch_norm or any(
        consumer.op_type == "BatchNormalization" for consumer in after
    )
    return layer.attributes.get("group", 1) == channels != 1 and not normed


def _along(windows: tuple[SlidingWindow, ...], attribute: str) -> str:
    values = [str(getattr(window, attribute)) for window in windows]
    return values[0] if len(set(values)) == 1 else "x".join(values)


def _sizes(sizes: Iterable[Number]) -> str:
    return "x".join(str(size) for size in sizes)


def _first(values: tuple[Number | None, ...] | None) -> Number | None:
    return values[0] if values else None
