"""Draws curves over a logarithmic axis as SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 640, 360, 48


@dataclass(frozen=True)
class Series:
    """One curve: what it is called, its points (x, y), its colour."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str


def draw(series: Sequence[Series], title: str, x_label: str, y_label: str) -> str:
    """Draw curves together; x is logarithmic and y starts at 0.

    Returns:
        The text of an SVG file.
    """
    xs = sorted({x for entry in series for x, _ in entry.points})
    most = max(y for entry in series for _, y in entry.points)
    step = _step(most)
    top = step * math.ceil(most / step)

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / xs[0]) / math.log(xs[-1] / xs[0]) if len(xs) > 1 else 0.5
        return (
            MARGIN + across * (WIDTH - 2 * MARGIN),
            HEIGHT - MARGIN - y / top * (HEIGHT - 2 * MARGIN),
        )

    left, right, bottom = MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(WIDTH / 2, 24, title),
        _text(WIDTH / 2, HEIGHT - 8, x_label),
        _text(MARGIN, MARGIN - 8, y_label),
        f'<path d="M{left:.1f} {bottom:.1f}H{right:.1f}" stroke="black"/>',
    ]
    parts += [_text(place(x, 0)[0], bottom + 16, f"{x:g}") for x in xs]
    for number in range(1, round(top / step) + 1):
        _, y = place(xs[0], number * step)
        parts.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="#dddddd"/>')
        parts.append(_text(left - 20, y + 4, f"{number * step:g}"))
    for index, entry in enumerate(series):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in entry.points))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{entry.colour}" stroke-width="2"/>'
        )
        name = _text(right - 40, bottom - 16 * (index + 1), entry.name, entry.colour)
        parts.append(name)
    return "\n".join([*parts, "</svg>\n"])


def _step(most: float) -> float:
    """1, 2 or 5 times a power of ten, so that an axis has three to six steps."""
    power = 10.0 ** math.floor(math.log10(most / 3))
    return max(times * power for times in (1, 2, 5) if times * power <= most / 3)


def _text(x: float, y: float, text: str, colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" fill="{colour}">{text}</text>'
