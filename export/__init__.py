"""PyTorch networks become ONNX files that describe themselves: the only package that uses torch."""

from convlens.export.architecture import Architecture, Cost, DefaultWeights
from convlens.export.architectures import ARCHITECTURES, find_architecture
from convlens.export.errors import (
    ConversionError,
    ExportError,
    ImageSizeError,
    ParityError,
    PrecisionError,
    TrainingError,
    UnknownArchitectureError,
    WeightsError,
    WriteError,
)
from convlens.export.exporter import (
    ExportResult,
    GraphOptions,
    export_model,
    export_network,
)
from convlens.export.parity import Parity
from convlens.export.precision import PRECISIONS, Agreement, PrecisionOptions
from convlens.export.to_onnx import DEFAULT_OPSET, OPSETS, Conversion, to_onnx
from convlens.export.trainer import TrainingResult, train_own

__all__ = [
    "ARCHITECTURES",
    "DEFAULT_OPSET",
    "OPSETS",
    "PRECISIONS",
    "Agreement",
    "Architecture",
    "Conversion",
    "ConversionError",
    "Cost",
    "DefaultWeights",
    "ExportError",
    "ExportResult",
    "GraphOptions",
    "ImageSizeError",
    "Parity",
    "ParityError",
    "PrecisionError",
    "PrecisionOptions",
    "TrainingError",
    "TrainingResult",
    "UnknownArchitectureError",
    "WeightsError",
    "WriteError",
    "export_model",
    "export_network",
    "find_architecture",
    "to_onnx",
    "train_own",
]
