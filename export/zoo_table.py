"""Writes the table of all exports: how equal, how large, how long.

Run as `python -m convlens.export.zoo_table docs/zoo.md [NAME ...]`.
"""

import os
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import onnxruntime as ort
import torch

from convlens.export.architectures import ARCHITECTURES, find_architecture
from convlens.export.exporter import GraphOptions
from convlens.export.zoo import Measured, Outcome, ZooRequest, export_all

_FAILED = "failed: "
_COLUMNS = (
    "| name | parameters | MACs | input | nodes | furthest from PyTorch | top-1 agrees | file "
    "| seconds | processor seconds | peak memory |",
    "|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|",
)


def write_table(path: Path, names: Collection[str]) -> int:
    """Export architectures with random weights, one after the other, and write what was measured.

    Args:
        path: of the table, in Markdown. Until it is complete it grows beside it, as `.part`; a run
            that was interrupted is taken up again from there, unless the releases have changed.
        names: of the architectures.

    Returns:
        How many failed.
    """
    part = path.with_name(f"{path.name}.part")
    rows = {name: row for name, row in _read_rows(part).items() if name in names}
    missing = [name for name in names if name not in rows]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        request = ZooRequest(Path(folder), "random", 0, GraphOptions())
        for outcome in export_all(missing, request):
            rows[outcome.name] = _row(outcome)
            failed += outcome.measured is None
            part.write_text("\n".join((*_head(), *(rows[name] for name in names if name in rows))))
            # All of them together take more than ten gigabytes.
            (request.folder / f"{outcome.name}.onnx").unlink(missing_ok=True)
    part.rename(path)
    return failed


def _read_rows(part: Path) -> dict[str, str]:
    """What an interrupted run has measured with these releases on such a machine, by name."""
    lines = part.read_text().splitlines() if part.exists() else []
    head = _head()
    if tuple(lines[: len(head)]) != head:
        return {}
    rows = (row for row in lines[len(head) :] if _FAILED not in row)
    return {row.split(" | ")[0].removeprefix("| "): row for row in rows}


def _head() -> tuple[str, ...]:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        "# The zoo",
        "",
        "Written by `make zoo-table`: each architecture is exported in a process of its own, with",
        "random weights (seed 0), and compared with PyTorch on photographs and on noise at batch",
        "sizes 1, 2, 3 and 8. The difference is the largest, relative to the spread of the logits;",
        "1e-4 is the limit. Nodes: as PyTorch's exporter writes them, and in the file. Seconds and",
        "memory are of the whole export, the comparison included.",
        "",
        f"torch {torch.__version__}, onnxruntime {ort.__version__} on the CPU;"
        f" {os.cpu_count()} cores, {memory_bytes / 1e9:.0f} GB of memory.",
        "",
        *_COLUMNS,
    )


def _row(outcome: Outcome) -> str:
    if outcome.measured is None:
        return f"| {outcome.name} | {_FAILED}{outcome.failure} |"
    return _measured_row(outcome.name, outcome.measured)


def _measured_row(name: str, measured: Measured) -> str:
    result, cost = measured.result, find_architecture(name).cost
    cells = (
        name,
        f"{cost.parameters:,}",
        f"{cost.macs / 1e6:,.1f} M",
        "x".join(map(str, result.input_shape)),
        f"{result.nodes_before:,} → {result.nodes:,}",
        f"{result.parity.max_relative:.1e}",
        f"{result.parity.top1_agreement:.0%}",
        f"{result.file_bytes / 1e6:,.1f} MB",
        f"{measured.seconds:.0f}",
        f"{measured.processor_seconds:.0f}",
        f"{measured.peak_bytes / 1e9:.1f} GB",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    table, *wanted = sys.argv[1:]
    sys.exit(1 if write_table(Path(table), wanted or ARCHITECTURES) else 0)
