"""Writes the table of all exports: how equal, how large, how long.

Run as `python -m convlens.export.zoo_table docs/zoo.md [NAME ...]`.
"""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnxruntime as ort
import torch

from convlens.export.architectures import ARCHITECTURES, find_architecture
from convlens.export.exporter import GraphOptions
from convlens.export.zoo import Measured, Outcome, ZooRequest, export_all

_HEAD = (
    "| name | parameters | MACs | input | nodes | furthest from PyTorch | top-1 agrees | file "
    "| seconds | peak memory |",
    "|---|--:|--:|---|--:|--:|--:|--:|--:|--:|",
)


def write_table(path: Path, names: Iterable[str]) -> int:
    """Export architectures with random weights, one after the other, and write what was measured.

    Args:
        path: of the table, in Markdown; written again after each architecture.
        names: of the architectures.

    Returns:
        How many failed.
    """
    rows: list[str] = []
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        request = ZooRequest(Path(folder), "random", 0, GraphOptions())
        for outcome in export_all(names, request):
            rows.append(_row(outcome))
            failed += outcome.measured is None
            path.write_text("\n".join((*_preamble(), *_HEAD, *rows, "")))
            # All of them together take more than ten gigabytes.
            (request.folder / f"{outcome.name}.onnx").unlink(missing_ok=True)
    return failed


def _preamble() -> tuple[str, ...]:
    return (
        "# The zoo",
        "",
        "Written by `make zoo-table`: each architecture is exported in a process of its own, with",
        "random weights (seed 0), and compared with PyTorch on photographs and on noise at batch",
        "sizes 1, 2, 3 and 8. The difference is the largest, relative to the spread of the logits;",
        "1e-4 is the limit. Nodes: as PyTorch's exporter writes them, and in the file. Seconds and",
        "memory are of the whole export, the comparison included.",
        "",
        f"torch {torch.__version__}, onnxruntime {ort.__version__} on the CPU,"
        f" {torch.get_num_threads()} threads.",
        "",
    )


def _row(outcome: Outcome) -> str:
    if outcome.measured is None:
        return f"| {outcome.name} | failed: {outcome.failure} |"
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
        f"{measured.peak_bytes / 1e9:.1f} GB",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    table, *wanted = sys.argv[1:]
    sys.exit(1 if write_table(Path(table), wanted or ARCHITECTURES) else 0)
