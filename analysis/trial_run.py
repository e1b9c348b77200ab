"""Trial runs: the shape of every tensor in a run of the model on noise."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.analysis.errors import ModelFileError, VerificationError
from convlens.analysis.functions import inline_functions
from convlens.analysis.graph import Graph
from convlens.analysis.graph_reader import text
from convlens.analysis.hazards import mend_dims
from convlens.analysis.measurement import OpenSession
from convlens.analysis.shape import Dim, Shape, Tensor, Tensors, elements, fixed, format_shape

if TYPE_CHECKING:
    from onnx import ModelProto

_PROTOBUF_LIMIT_BYTES = 2**31 - 1
# In values; no batch of pictures has more.
_MAX_NOISE = 2**28


def run_shapes(
    path: str | Path, graph: Graph, tensors: Tensors, open_session: OpenSession
) -> dict[str, Shape]:
    """Run the model on noise and look at the shape of every tensor.

    Args:
        path: of the file; its weights must be readable.
        graph: the same model's graph.
        tensors: their shapes as computed; those of the inputs have no symbolic dimension.
        open_session: of the runtime.

    Raises:
        ModelFileError: its weights cannot be read.
        VerificationError: an input has no size, or the model is too large.
    """
    feeds = {tensor.name: _noise(tensors.get(tensor.name, tensor)) for tensor in graph.inputs}
    model = _with_all_outputs(path, graph)
    mend_dims(model.graph)
    session = open_session(model.SerializeToString())
    names = [value.name for value in model.graph.output]
    values = session.run(names, feeds)
    return {
        name: tuple(value.shape)
        for name, value in zip(names, values, strict=True)
        if isinstance(value, np.ndarray)
    }


def _noise(tensor: Tensor) -> "np.ndarray[Any, Any]":
    shape = tensor.shape or ()
    if any(isinstance(dim, str) for dim in shape):
        raise VerificationError(
            f"the input {tensor.name!r} is [{format_shape(shape)}]: "
            "to run the model, say which size with --input-size and --batch"
        )
    if elements(max(dim, 1) for dim in fixed(shape)) > _MAX_NOISE:
        raise VerificationError(
            f"the input {tensor.name!r} is [{format_shape(shape)}]: too large to be run"
        )
    values = np.random.default_rng(0).random([int(dim) for dim in shape])
    return values.astype(tensor.dtype or "float32")


def _with_all_outputs(path: str | Path, graph: Graph) -> "ModelProto":
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = inline_functions(onnx.load(path))
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise ModelFileError(f"{path}: its weights cannot be read: {error}") from error
    if model.ByteSize() > _PROTOBUF_LIMIT_BYTES:
        raise VerificationError(f"{path}: over 2 GB, too large to be run with all its tensors")
    present = {text(value.name) for value in model.graph.output}
    for name in (name for node in graph.nodes for name in node.outputs if name):
        if name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    return model


def shape_differences(tensors: Tensors, actual: Mapping[str, Shape]) -> Iterator[str]:
    """Say where a run's shape is not the computed one.

    A dimension that is symbolic still must be the same wherever it occurs.
    """
    meaning: dict[str, Dim] = {}
    for name, shape in actual.items():
        computed = tensors[name].shape if name in tensors else None
        if computed is None:
            continue
        agrees = len(computed) == len(shape) and all(
            dim == found if isinstance(dim, int) else meaning.setdefault(dim, found) == found
            for dim, found in zip(computed, shape, strict=True)
            if dim != "?"
        )
        if not agrees:
            yield (
                f"{name}: the shape is {format_shape(shape)} in a run, "
                f"and was computed as {format_shape(computed)}"
            )
