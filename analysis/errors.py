"""What can go wrong when a model file is read or analysed.

AnalysisError
├── ModelFileError      the file is missing, empty, truncated or not ONNX
│   ├── WireError       its bytes break the protobuf wire format
│   └── GraphError      its operators wait for each other, or are too many
├── CardError           the file's own metadata contradicts the model card's format
├── LayerNotFoundError  no layer has the name that was asked for
├── InputSizeError      the network cannot take a picture of that size
├── ComparisonError     two networks are too large to be compared
├── MissingPackageError an optional package that was asked for is not installed
├── SymbolicShapeError  a number was asked of a shape that is not fully known
└── VerificationError   the model cannot be run, so that nothing can be compared
"""


class AnalysisError(Exception):
    """The root of this package's errors; its text is fit to be shown to a user."""


class ModelFileError(AnalysisError):
    """The file is missing, empty, truncated or not ONNX."""


class WireError(ModelFileError):
    """The bytes break the protobuf wire format."""


class GraphError(ModelFileError):
    """The operators wait for each other in a circle, or are too many."""


class CardError(AnalysisError):
    """The file's own metadata contradicts the model card's format."""


class LayerNotFoundError(AnalysisError):
    """No layer has the name that was asked for."""


class InputSizeError(AnalysisError):
    """The network cannot take a picture of that size."""


class ComparisonError(AnalysisError):
    """Two networks are too large to be compared."""


class MissingPackageError(AnalysisError):
    """An optional package that was asked for is not installed."""


class SymbolicShapeError(AnalysisError):
    """A number was asked of a shape that is not fully known."""


class VerificationError(AnalysisError):
    """The model cannot be run, so that nothing can be compared with a run."""
