"""Rounds become medians, ratios and a table."""

import os
import platform
import statistics
from pathlib import Path
from typing import Any

Rounds = dict[str, list[dict[str, float]]]


def summary(settings: dict[str, str], rounds: Rounds) -> dict[str, Any]:
    """Medians of each server, and its rate beside the best peer's of the same round.

    Args:
        settings: of each server that went all the way.
        rounds: what each of its rounds found. Ours are those whose names begin with `convlens`.
    """
    rows = {name: _medians(rounds[name]) | {"setting": settings[name]} for name in settings}
    peers = [name for name in rows if not name.startswith("convlens")]
    best = max(peers, key=lambda name: rows[name]["per_second"], default=None)
    for name, row in rows.items():
        if best is not None:
            row["ratio"] = round(
                statistics.median(
                    mine["per_second"] / other["per_second"]
                    for mine, other in zip(rounds[name], rounds[best], strict=True)
                ),
                2,
            )
    return {"best_peer": best, "servers": rows, "rounds": rounds}


def table(found: dict[str, Any]) -> str:
    """Markdown, the fastest first."""
    lines = [
        f"\n{found['model']}\n",
        "| server | answers/s | / best peer | mean ms | server µs | client µs | setting |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = sorted(found["servers"].items(), key=lambda item: -item[1]["per_second"])
    lines += [
        f"| {name} | {row['per_second']:,.1f} | {row.get('ratio', '')} | {row['mean_ms']:,.1f} | "
        f"{row['server_us']:,.0f} | {row['client_us']:.0f} | {row['setting']} |"
        for name, row in rows
    ]
    return "\n".join(lines)


def machine() -> str:
    """The processor, how many of them there are, and Python's version."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")
    processors = len(os.sched_getaffinity(0))
    return f"{name}, {processors} processors, Python {platform.python_version()}"


def _medians(rows: list[dict[str, float]]) -> dict[str, Any]:
    return {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
