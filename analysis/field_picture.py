"""Two pictures of the receptive field as SVG: on the image, and growing with the depth."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count, groupby
from math import floor

from convlens.analysis.layer import Layer
from convlens.analysis.layer_table import shown_name
from convlens.analysis.number import to_float
from convlens.analysis.report import Report
from convlens.analysis.text_layout import printable

# How much is shown around the image, in lengths of the image; a field may be larger still.
_SMALLEST_MARGIN, _LARGEST_MARGIN = 0.1, 1.5
# The chart's plane in units of its own; the text around it has the margins.
_CHART_WIDTH, _CHART_HEIGHT = 640, 320
_LEFT, _BOTTOM, _TOP, _RIGHT = 46, 26, 18, 10
# As many colours as the page's style sheet has.
_COLOURS = 7


@dataclass(frozen=True)
class Box:
    """A rectangle of the image, in pixels; what lies outside the image is padding."""

    left: float
    top: float
    width: float
    height: float


def picture_size(report: Report) -> tuple[int, int] | None:
    """(height, width) of the image; None where it is not of two axes, or its size is symbolic."""
    size = report.picture_size
    return (size[0], size[1]) if len(size) == 2 else None


def central_box(layer: Layer, size: tuple[int, int]) -> Box | None:
    """What the unit sees whose receptive field lies nearest to the middle of the image."""
    sees = layer.receptive_field
    if sees.size is None or sees.stride is None or sees.start is None or len(sees.axes) != 2:
        return None
    lows: dict[int, float] = {}
    lengths: dict[int, float] = {}
    for axis, length, stride, start in zip(
        sees.axes, sees.size, sees.stride, sees.start, strict=True
    ):
        if length is None or stride is None or start is None:
            return None
        to_middle = (size[axis] - 1) / 2 - to_float(start) - (to_float(length) - 1) / 2
        lows[axis] = to_float(start) + to_float(stride) * floor(to_middle / to_float(stride) + 0.5)
        lengths[axis] = to_float(length)
    return Box(lows[1], lows[0], lengths[1], lengths[0])


def image_svg(report: Report) -> str:
    """The image, and on it for each stride what a unit in the middle of its last layer sees.

    Returns:
        Empty where the image's size is not known.
    """
    size = picture_size(report)
    if size is None:
        return ""
    height, width = size
    stages = [
        (layer, box) for layer in _last_of_strides(report) if (box := central_box(layer, size))
    ]
    margin = _margin([box for _, box in stages], size)
    view = f"{-margin:g} {-margin:g} {width + 2 * margin:g} {height + 2 * margin:g}"
    stroke = (max(size) + 2 * margin) / 300
    squares = "".join(
        f'<rect class="c{_colour(index, len(stages))}" {_rect(box)} fill="none" '
        f'stroke-width="{stroke:g}"><title>{_label(layer)}</title></rect>'
        for index, (layer, box) in reversed(list(enumerate(stages)))
    )
    return (
        f'<svg id="image" viewBox="{view}" role="img" aria-label="Receptive fields on the image">'
        f'<rect class="image" width="{width}" height="{height}"/>{squares}'
        f'<rect id="selected" width="0" height="0" stroke-width="{1.5 * stroke:g}"/></svg>'
    )


def _margin(boxes: Sequence[Box], size: tuple[int, int]) -> float:
    """How many pixels around the image are shown, so that what is seen fits if it can."""
    height, width = size
    beyond = max(
        (max(-box.left, -box.top, box.left + box.width - width, box.top + box.height - height))
        for box in (*boxes, Box(0, 0, 0, 0))
    )
    return max(size) * min(max(1.1 * beyond / max(size), _SMALLEST_MARGIN), _LARGEST_MARGIN)


def growth_svg(report: Report) -> str:
    """The receptive field's size over the layers, and the strides as bands behind it.

    Returns:
        Empty where no layer has a receptive field.
    """
    seen = [(layer, _largest(layer)) for layer in report.layers]
    points = [(layer, size) for layer, size in seen if size is not None]
    if not points:
        return ""
    image = max(picture_size(report) or (0,))
    top = 1.08 * max(image, *(size for _, size in points))
    across = (_CHART_WIDTH - _LEFT - _RIGHT) / len(points)

    def y(size: float) -> float:
        return _CHART_HEIGHT - _BOTTOM - size / top * (_CHART_HEIGHT - _BOTTOM - _TOP)

    path = "".join(
        f"{'M' if index == 0 else 'L'}{_LEFT + index * across:.1f} {y(size):.1f}h{across:.1f}"
        for index, (_, size) in enumerate(points)
    )
    return (
        f'<svg id="growth" viewBox="0 0 {_CHART_WIDTH} {_CHART_HEIGHT}" role="img" '
        f'aria-label="Size of the receptive field over the layers">'
        f"{''.join(_bands([layer for layer, _ in points], across))}"
        f"{''.join(_grid(top, y))}{_image_line(image, y)}"
        f'<path class="line" d="{path}"/>{"".join(_targets(points, across))}</svg>'
    )


def _last_of_strides(report: Report) -> list[Layer]:
    """The last layer of each stride, the smallest stride first."""
    last = {_stride(layer): layer for layer in report.layers if _largest(layer) is not None}
    return [last[stride] for stride in sorted(last)]


def _bands(layers: Sequence[Layer], across: float) -> Iterable[str]:
    strides = sorted({_stride(layer) for layer in layers})
    left = float(_LEFT)
    for stride, group in groupby(layers, key=_stride):
        width = across * len(list(group))
        colour = _colour(strides.index(stride), len(strides))
        yield (
            f'<rect class="band c{colour}" x="{left:.1f}" y="{_TOP}" width="{width:.1f}" '
            f'height="{_CHART_HEIGHT - _BOTTOM - _TOP}"><title>stride {stride:g}</title></rect>'
        )
        if width > 22:
            middle = left + width / 2
            yield f'<text class="label" x="{middle:.1f}" y="12">{stride:g}</text>'
        left += width


def _grid(top: float, y: Callable[[float], float]) -> Iterable[str]:
    """About four lines at round numbers, each with its number."""
    step = next(
        factor * 10**power
        for power in count()
        for factor in (1, 2, 5)
        if top / (factor * 10**power) <= 5
    )
    for size in range(0, int(top) + 1, step):
        yield (
            f'<path class="grid" d="M{_LEFT} {y(size):.1f}H{_CHART_WIDTH - _RIGHT}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y(size) + 4:.1f}">{size:,}</text>'
        )


def _image_line(image: int, y: Callable[[float], float]) -> str:
    if image == 0:
        return ""
    return (
        f'<path class="limit" d="M{_LEFT} {y(image):.1f}H{_CHART_WIDTH - _RIGHT}"/>'
        f'<text class="limit" x="{_LEFT + 6}" y="{y(image) - 5:.1f}">the image, {image:,}</text>'
    )


def _targets(points: Sequence[tuple[Layer, float]], across: float) -> Iterable[str]:
    """A column to point at for each layer, with its name and numbers."""
    for index, (layer, _) in enumerate(points):
        yield (
            f'<rect class="target" data-layer="{layer.index}" x="{_LEFT + index * across:.1f}" '
            f'y="{_TOP}" width="{across:.1f}" height="{_CHART_HEIGHT - _BOTTOM - _TOP}">'
            f"<title>{_label(layer)}</title></rect>"
        )


def _colour(index: int, count: int) -> int:
    return index * (_COLOURS - 1) // max(count - 1, 1)


def _largest(layer: Layer) -> float | None:
    sizes = [to_float(size) for size in layer.receptive_field.size or () if size is not None]
    return max(sizes, default=None)


def _stride(layer: Layer) -> float:
    strides = [
        to_float(stride) for stride in layer.receptive_field.stride or () if stride is not None
    ]
    return max(strides, default=1.0)


def _rect(box: Box) -> str:
    return f'x="{box.left:g}" y="{box.top:g}" width="{box.width:g}" height="{box.height:g}"'


def _label(layer: Layer) -> str:
    size = _largest(layer) or 0
    text = f"{shown_name(layer)}: sees {size:g}, stride {_stride(layer):g}"
    return escape(printable(text))
