"""The report: everything that is known of a model, as plain values."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from convlens.analysis.card import ModelCard
from convlens.analysis.dimensions import symbol_names
from convlens.analysis.errors import LayerNotFoundError
from convlens.analysis.layer import Formulas, Layer, tensor_json
from convlens.analysis.model_file import sha256
from convlens.analysis.shape import Shape, Tensor

if TYPE_CHECKING:
    import pandas

SCHEMA = "convlens.analysis/1"


@dataclass(frozen=True)
class Model:
    """The file that was analysed.

    Attributes:
        path: as it was given.
        file_bytes: its size, weights included.
        ir_version: of the ONNX format.
        opset: the version of ONNX's own operators.
        producer: the name and version of what wrote it.
        card: what the file says of itself; empty where it says nothing.
    """

    path: str
    file_bytes: int
    ir_version: int
    opset: int
    producer: str
    card: ModelCard = field(default_factory=ModelCard)

    @cached_property
    def sha256(self) -> str:
        """Of the file when it is first asked for: the one fact that takes reading all of it.

        Raises:
            ModelFileError: the file cannot be read any more.
        """
        return sha256(self.path)


@dataclass(frozen=True)
class Totals:
    """Sums over all layers; what is not known of a layer counts as nothing.

    Attributes:
        parameters: what the file stores, each tensor once, statistics included.
        learnable: what the network trains, those of folded BatchNormalizations included.
        statistics: stored running means and variances.
        macs: of one run, a symbolic dimension counted as 1.
        flops: as macs.
        weight_bytes: of the parameters, as stored.
        activation_bytes: of all outputs of all layers.
        peak_activation_bytes: the most that is alive at the same time.
        formulas: the same where dimensions are asked to be symbolic; else None.
    """

    parameters: int
    learnable: int
    statistics: int
    macs: int
    flops: int
    weight_bytes: int
    activation_bytes: int
    peak_activation_bytes: int
    formulas: Formulas | None = None

    def to_json(self) -> dict[str, Any]:
        """The totals as the schema has them, with formulas where there are such."""
        totals = {name: value for name, value in vars(self).items() if name != "formulas"}
        return totals if self.formulas is None else totals | {"formulas": self.formulas.to_json()}


@dataclass(frozen=True)
class Report:
    """Everything that is known of a model.

    Attributes:
        model: the file.
        inputs: what the caller feeds.
        outputs: what the caller gets.
        layers: in the order of execution.
        totals: sums over the layers.
        notes: what a reader must be told, a line each.
        declared_inputs: the inputs by the file's own words, before any size was set.
        single_pictures: the names of the inputs that are one picture without a batch.
        unused_initializers: the names of stored tensors that nothing reads.
        picture: the spatial size of the first picture among the inputs; empty where none is.
    """

    model: Model
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    totals: Totals
    notes: tuple[str, ...] = ()
    declared_inputs: tuple[Tensor, ...] = ()
    single_pictures: tuple[str, ...] = ()
    unused_initializers: tuple[str, ...] = ()
    picture: Shape = ()

    @property
    def picture_size(self) -> tuple[int, ...]:
        """The picture's spatial size, as (height, width); empty where it is not known."""
        size = tuple(dim for dim in self.picture if isinstance(dim, int))
        return size if len(size) == len(self.picture) else ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """The inputs' symbolic dimensions, each of which the numbers count as 1."""
        dims = (dim for tensor in self.inputs for dim in tensor.shape or ())
        return tuple(dict.fromkeys(dim for dim in dims if isinstance(dim, str)))

    @property
    def computed_symbols(self) -> tuple[str, ...]:
        """The symbols of sizes that only a run can tell, as how many boxes were found."""
        tensors = (tensor for layer in self.layers for tensor in layer.outputs)
        dims = {dim for tensor in tensors for dim in tensor.shape or () if isinstance(dim, str)}
        given = {name for dim in self.symbols for name in symbol_names(dim)}
        names = {name for dim in dims for name in symbol_names(dim)}
        return tuple(sorted(names - given))

    def layer(self, name: str) -> Layer:
        """Find a layer by its name, the name of one of its outputs, its scope, or its index.

        Raises:
            LayerNotFoundError: there is none; the text names those that are nearest.
        """
        for key in (_names, _output_names, _scopes, _indices):
            found = next((layer for layer in self.layers if name in key(layer)), None)
            if found is not None:
                return found
        from difflib import get_close_matches

        near = get_close_matches(name, [layer.name for layer in self.layers], n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else self._first_names()
        raise LayerNotFoundError(f"no layer is called {name!r}; {hint}")

    def _first_names(self) -> str:
        names = [layer.name for layer in self.layers]
        return f"the layers are {', '.join(names[:3])}{' and so on' if names[3:] else ''}"

    def to_json(self) -> dict[str, Any]:
        """The report by the schema "convlens.analysis/1", ready for `json.dumps`.

        Raises:
            ModelFileError: the file cannot be read any more, so that it has no checksum.
        """
        return {
            "schema": SCHEMA,
            "model": {
                "path": self.model.path,
                "sha256": self.model.sha256,
                "ir_version": self.model.ir_version,
                "opset": self.model.opset,
                "producer": self.model.producer,
                "file_bytes": self.model.file_bytes,
            },
            "inputs": [tensor_json(tensor) for tensor in self.inputs],
            "outputs": [tensor_json(tensor) for tensor in self.outputs],
            "layers": [layer.to_json() for layer in self.layers],
            "totals": self.totals.to_json(),
            "notes": list(self.notes),
        }

    def to_dataframe(self) -> "pandas.DataFrame":
        """The layers as a pandas data frame, a row each, with the columns of the CSV.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        from convlens.analysis.dataframe import report_dataframe

        return report_dataframe(self)

    def _repr_html_(self) -> str:
        """What a notebook shows of it: the page that `--format html` writes, in a frame."""
        from convlens.analysis.render_html import report_frame

        return report_frame(self)


def _names(layer: Layer) -> tuple[str, ...]:
    return (layer.name,)


def _output_names(layer: Layer) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in layer.outputs)


def _scopes(layer: Layer) -> tuple[str, ...]:
    return (layer.scope,) if layer.scope else ()


def _indices(layer: Layer) -> tuple[str, ...]:
    return (str(layer.index),)
