"""PyTorch networks become ONNX files that describe themselves: the only package that uses torch."""

from convlens.export.architectures import ARCHITECTURES, Architecture, find_architecture
from convlens.export.errors import (
    ConversionError,
    ExportError,
    ParityError,
    UnknownArchitectureError,
    WeightsError,
    WriteError,
)
from convlens.export.exporter import ExportResult, export_model, export_network
from convlens.export.parity import Parity
from convlens.export.to_onnx import to_onnx

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "ConversionError",
    "ExportError",
    "ExportResult",
    "Parity",
    "ParityError",
    "UnknownArchitectureError",
    "WeightsError",
    "WriteError",
    "export_model",
    "export_network",
    "find_architecture",
    "to_onnx",
]
