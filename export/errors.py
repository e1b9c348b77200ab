"""What can go wrong when a network is exported.

ExportError
├── UnknownArchitectureError  no architecture has the name that was asked for
├── ImageSizeError            the architecture cannot take pictures of the size asked for
├── WeightsError              the weights cannot be had, or do not fit the network
├── TrainingError             nothing can be learnt from the pictures that were given
├── ConversionError           the network cannot be turned into an ONNX graph
├── ParityError               the ONNX graph does not compute what the network computes
├── PrecisionError            in fewer bits the graph computes something else
└── WriteError                the file cannot be written
"""


class ExportError(Exception):
    """The root of this package's errors; its text is fit to be shown to a user."""


class UnknownArchitectureError(ExportError):
    """No architecture has the name that was asked for; the text offers near matches."""


class ImageSizeError(ExportError):
    """The architecture cannot take pictures of the size that was asked for."""


class WeightsError(ExportError):
    """The weights cannot be had, or do not fit the network."""


class TrainingError(ExportError):
    """Nothing can be learnt from the pictures that were given, or not by this network."""


class ConversionError(ExportError):
    """The network cannot be turned into an ONNX graph."""


class ParityError(ExportError):
    """The ONNX graph does not compute what the network computes; no file is written."""


class PrecisionError(ExportError):
    """In fewer bits the graph would compute something else, or that cannot be tried out."""


class WriteError(ExportError):
    """The file cannot be written."""
