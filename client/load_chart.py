"""A picture of what a load generator has measured, as SVG: no library is needed to draw or show it.

On the left latency over throughput, a point for each load; on the right where the time of a
request goes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT, MARGIN = 480, 320, 56
COLOURS = {"p50": "#1f77b4", "p99": "#d62728"}
# What a request passes through, in its order; the last is what the server did not see.
STAGES = {
    "decode": "#4c9f70",
    "queue": "#e0b040",
    "infer": "#1f77b4",
    "other": "#999999",
    "outside": "#dddddd",
}


@dataclass(frozen=True)
class Load:
    """One load's row of the results.

    Attributes:
        name: of the load.
        figures: `Tally.to_json`.
    """

    name: str
    figures: Mapping[str, Any]


def draw(title: str, loads: Sequence[Load]) -> str:
    """The text of an SVG file.

    Args:
        title: what was measured.
        loads: in their order; those that got no answer are left out.
    """
    answered = [load for load in loads if load.figures["answers_per_second"] > 0]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(MARGIN, 20, title, anchor="start"),
        *(_curves(answered) if answered else ()),
        *(_bars(answered) if answered else ()),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _curves(loads: Sequence[Load]) -> list[str]:
    """Latency (logarithmic) over throughput."""
    rates = [load.figures["answers_per_second"] for load in loads]
    latencies = [load.figures["latency_ms"][name] for load in loads for name in COLOURS]
    low = 10 ** math.floor(math.log10(max(min(latencies), 1e-3)))
    high = 10 ** math.ceil(math.log10(max(*latencies, 2 * low)))
    right, top, bottom = WIDTH - MARGIN / 2, MARGIN, HEIGHT - MARGIN

    def across(rate: float) -> float:
        share: float = rate / max(rates)
        return MARGIN + share * (right - MARGIN)

    def up(latency_ms: float) -> float:
        share: float = math.log(max(latency_ms, low) / low) / math.log(high / low)
        return bottom - share * (bottom - top)

    parts = [_text(WIDTH / 2, HEIGHT - 12, "answers/s"), _text(MARGIN - 8, top - 14, "ms")]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = up(10.0**power)
        parts += [_line(MARGIN, y, right, y), _text(MARGIN - 6, y + 4, f"{10.0**power:g}", "end")]
    for share in (0.0, 0.5, 1.0):
        x = across(share * max(rates))
        parts.append(_text(x, bottom + 16, f"{share * max(rates):,.4g}"))
    for number, (name, colour) in enumerate(COLOURS.items()):
        points = [
            (across(rate), up(load.figures["latency_ms"][name]))
            for rate, load in zip(rates, loads, strict=True)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(_text(right - 24, top - 14 + 14 * number, name, colour=colour))
        if number == 0:
            parts += [
                _text(x, y + 16, load.name) for (x, y), load in zip(points, loads, strict=True)
            ]
    return parts


def _bars(loads: Sequence[Load]) -> list[str]:
    """The mean request of each load, stage by stage."""
    rows = [(load.name, _stages(load.figures)) for load in loads]
    longest = max(sum(stages.values()) for _, stages in rows)
    left, top = WIDTH + 2 * MARGIN, MARGIN
    scale = (2 * WIDTH - 1.5 * MARGIN - left) / longest
    height = (HEIGHT - top - MARGIN) / len(rows)
    parts = []
    for row, (name, stages) in enumerate(rows):
        x, y = float(left), top + row * height
        parts.append(_text(left - 6, y + height / 2, name, "end"))
        for stage, mean_ms in stages.items():
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{mean_ms * scale:.1f}" '
                f'height="{0.7 * height:.1f}" fill="{STAGES[stage]}">'
                f"<title>{stage}: {mean_ms:.2f} ms</title></rect>"
            )
            x += mean_ms * scale
        parts.append(_text(x + 4, y + height / 2, f"{sum(stages.values()):,.1f} ms", "start"))
    x = float(left)
    for stage, colour in STAGES.items():
        parts.append(f'<rect x="{x}" y="{HEIGHT - 22}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 14, HEIGHT - 12, stage, "start"))
        x += 30 + 7 * len(stage)
    return parts


def _stages(figures: Mapping[str, Any]) -> dict[str, float]:
    """Mean milliseconds by stage; all of it lies outside a server that does not tell."""
    inside: Mapping[str, float] = figures["server_mean_ms"]
    stages = {stage: inside.get(stage, 0.0) for stage in ("decode", "queue", "infer")}
    total = inside.get("total", 0.0)
    stages["other"] = max(0.0, total - sum(stages.values()))
    stages["outside"] = max(0.0, figures["latency_ms"]["mean"] - total)
    return stages


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = "black") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{escape(text)}</text>'
