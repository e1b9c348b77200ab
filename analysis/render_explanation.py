"""An explanation as text: each formula with its numbers."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from convlens.analysis.clipping import Clipped
from convlens.analysis.derivation import Derivation
from convlens.analysis.explanation import Explanation, OutputSize
from convlens.analysis.layer_table import axes_text, number_text, shown_name
from convlens.analysis.shape import format_shape
from convlens.analysis.text_layout import printable


def explanation_text(explanation: Explanation) -> RenderableType:
    """The explanation for a reader: sizes, receptive field, parameters, and what sharing saved."""
    layer = explanation.layer
    shapes = [f"[{format_shape(t.shape)}]" for t in (*layer.inputs[:1], *layer.outputs[:1])]
    title = f"{shown_name(layer)}: {layer.op_type}, {' -> '.join(shapes)}"
    return Group(
        Text(printable(title), "bold"),
        *_output_sizes(explanation),
        *_receptive_field(explanation),
        *_uncertainty(explanation),
        *_parameters(explanation),
        *_dense(explanation),
        *_stack(explanation),
    )


def _uncertainty(explanation: Explanation) -> Iterable[Text]:
    layer = explanation.layer
    if layer.certainty.reason is not None:
        yield Text(f"\n{layer.status}: {printable(layer.certainty.reason)}", "yellow")


_SLIDING_FORMULA = "floor((W - F + 2P) / S) + 1"


def _output_sizes(explanation: Explanation) -> Iterable[Text]:
    if not explanation.output_sizes:
        return
    is_transposed = explanation.output_sizes[0].output_padding is not None
    formula = "S*(W - 1) + F - 2P + output_padding" if is_transposed else _SLIDING_FORMULA
    yield Text(f"\nOutput size   O = {formula}", "bold")
    ceil_mode = any(size.window.ceil_mode for size in explanation.output_sizes)
    if ceil_mode:
        yield Text(
            "  ceil_mode: the quotient is rounded up, unless the last window would start in the "
            "end padding"
        )
    for size in explanation.output_sizes:
        yield Text(f"  {' and '.join(size.axes)}: {_formula(size)}")


def _formula(size: OutputSize) -> str:
    """The formula with its numbers; dilation widens F, and unequal padding is added up."""
    window = size.window
    extent = str(window.kernel)
    if window.dilation != 1:
        extent = f"({window.dilation}*({window.kernel} - 1) + 1)"
    padding = f"{window.pad_begin} + {window.pad_end}"
    if window.pad_begin == window.pad_end:
        padding = "2*?" if window.pad_begin is None else f"2*{window.pad_begin}"
    output = "?" if size.output_size is None else size.output_size
    if size.output_padding is not None:
        padding = padding if window.pad_begin == window.pad_end else f"({padding})"
        return (
            f"{window.stride}*({size.input_size} - 1) + {extent} - {padding} + "
            f"{size.output_padding} = {output}"
        )
    rounding = "ceil" if window.ceil_mode else "floor"
    return (
        f"{rounding}(({size.input_size} - {extent} + {padding}) / {window.stride}) + 1 = {output}"
    )


def _receptive_field(explanation: Explanation) -> Iterable[RenderableType]:
    sees = explanation.layer.receptive_field
    if sees.size is None and sees.global_since is None:
        return
    rule = "   each layer adds (k' - 1) * stride of its input" if explanation.derivations else ""
    yield Text(f"\nReceptive field{rule}", "bold")
    if sees.global_since is not None:
        others = "over its other paths, " if sees.size is not None else ""
        yield Text(
            f"  {others}it sees the whole picture, first at node {printable(sees.global_since)}"
        )
    for derivation in explanation.derivations:
        yield Text(f"  {' and '.join(derivation.axes)}")
        yield _derivation_table(derivation)
    if sees.size is not None:
        yield Text(
            f"  size {axes_text(sees.size)}, stride {axes_text(sees.stride)}, "
            f"start {axes_text(sees.start)}"
        )
    for name, view in explanation.views:
        yield Text(f"  the unit at the {name} {_view(view)}")
    if not sees.aligned:
        yield Text(f"  {_misalignment(explanation)}", "yellow")


def _misalignment(explanation: Explanation) -> str:
    """Where branches that differ met, and the range of what they see where their strides do."""
    node = explanation.layer.receptive_field.misaligned_since or "?"
    text = f"branches of different stride or centre meet, first at node {printable(node)}"
    for entry in explanation.ranges:
        strides = sorted(path.stride for path in entry.paths)
        text += (
            f"\n  {' and '.join(entry.axes)}: they see {number_text(entry.paths[0].size)} to "
            f"{number_text(entry.paths[-1].size)} pixels at strides {number_text(strides[0])} to "
            f"{number_text(strides[-1])}: "
            + "; ".join(
                f"{number_text(path.size)} at stride {number_text(path.stride)} from "
                f"{number_text(path.start)} on"
                for path in entry.paths
            )
        )
    return text


def _view(view: Clipped) -> str:
    pixels = ", ".join(
        f"{number_text(begin)} to {number_text(end - 1)}"
        for begin, end in zip(view.begin, view.end, strict=True)
    )
    return (
        f"sees pixels {pixels}: {float(view.coverage):.1%} of the picture; "
        f"{float(view.padding):.1%} of its window is padding"
    )


def _derivation_table(derivation: Derivation) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 2), header_style="bold")
    table.add_column("layer", overflow="ellipsis")
    for heading in ("op", "k'", "stride", "adds", "sees", "stride after"):
        table.add_column(heading, justify="left" if heading == "op" else "right", no_wrap=True)
    for growth in derivation.growths:
        layer = growth.layer
        cells = (
            printable(shown_name(layer)) if layer else "a pixel",
            printable(layer.op_type) if layer else "",
            "" if growth.extent is None else str(growth.extent),
            number_text(growth.stride),
            _added(growth.extent, growth.stride, growth.added),
            number_text(growth.size),
            number_text(growth.stride_after),
        )
        table.add_row(*map(Text, cells))
    return table


def _added(extent: int | None, stride: object, added: object) -> str:
    return f"{added}" if extent is None else f"({extent} - 1)*{stride} = {added}"


def _parameters(explanation: Explanation) -> Iterable[Text]:
    parameters = explanation.layer.parameters
    if not explanation.parameter_terms:
        return
    yield Text(f"\nParameters   {parameters.learnable:,}", "bold")
    for term, count in explanation.parameter_terms:
        yield Text(f"  {count:>13,}  {printable(term)}")
    if parameters.statistics:
        yield Text(f"  {parameters.statistics:>13,}  running means and variances, beside them")


def _dense(explanation: Explanation) -> Iterable[Text]:
    dense, learnable = explanation.dense, explanation.layer.parameters.learnable
    if dense is None:
        return
    yield Text("\nWithout sharing, the same two maps would need", "bold")
    yield Text(
        f"  locally connected   {dense.kernel_weights:,} x {dense.outputs:,} = "
        f"{dense.local_weights:,} weights{_times(dense.local_weights, learnable)}"
    )
    yield Text(
        f"  fully connected     {dense.inputs:,} x {dense.outputs:,} = "
        f"{dense.weights:,} weights{_times(dense.weights, learnable)}"
    )


def _times(weights: int, learnable: int) -> str:
    return f", {weights // learnable:,} times as many" if learnable else ""


def _stack(explanation: Explanation) -> Iterable[RenderableType]:
    stack = explanation.stack
    if stack is None:
        return
    kernels = ", ".join(
        "x".join(str(dim) for dim in (layer.input_shape(1) or ())[2:]) for layer in stack.layers
    )
    single = "x".join(map(str, stack.kernel))
    yield Text(f"\nStack of kernels   {kernels} see what one {single} sees", "bold")
    yield Text(printable(f"  {', '.join(map(shown_name, stack.layers))}"))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 2), header_style="bold")
    table.add_column("")
    table.add_column("weights", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    table.add_row("the stack", f"{stack.weights:,}", f"{stack.macs:,}")
    table.add_row(f"one {single}", f"{stack.single_weights:,}", f"{stack.single_macs:,}")
    weights, macs = stack.single_weights / stack.weights, stack.single_macs / max(stack.macs, 1)
    table.add_row("ratio", f"{weights:.2f}", f"{macs:.2f}")
    yield table
