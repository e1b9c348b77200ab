"""Reads an ONNX graph and computes facts about it; knows no framework and no server.

    from convlens.analysis import analyze

    report = analyze("model.onnx")
    report.totals.macs, report.layer("conv1").receptive_field.size

Names are imported from their modules when they are first used: importing onnx takes longer than
analysing most models.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convlens.analysis.analyzer import analyze
    from convlens.analysis.card import ModelCard
    from convlens.analysis.comparison import compare
    from convlens.analysis.errors import AnalysisError
    from convlens.analysis.explanation import explain
    from convlens.analysis.layer import Layer
    from convlens.analysis.linter import lint
    from convlens.analysis.model_file import read_metadata
    from convlens.analysis.receptive_field import ReceptiveField
    from convlens.analysis.report import Report, Totals

_MODULES = {
    "AnalysisError": "errors",
    "Layer": "layer",
    "ModelCard": "card",
    "ReceptiveField": "receptive_field",
    "Report": "report",
    "Totals": "report",
    "analyze": "analyzer",
    "compare": "comparison",
    "explain": "explanation",
    "lint": "linter",
    "read_metadata": "model_file",
}

__all__ = [
    "AnalysisError",
    "Layer",
    "ModelCard",
    "ReceptiveField",
    "Report",
    "Totals",
    "analyze",
    "compare",
    "explain",
    "lint",
    "read_metadata",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
