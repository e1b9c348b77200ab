"""Preprocessing inside the graph: pixels in, as a decoder leaves them."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from convlens.analysis.card import ModelCard, Preprocessing
from convlens.export.errors import ConversionError

_TO_NCHW = (0, 3, 1, 2)
_SCOPE = "preprocessing"


def embed_preprocessing(model: onnx.ModelProto, card: ModelCard) -> ModelCard:
    """Let a graph scale, normalise and lay out the pixels itself.

    Args:
        model: takes float32 in NCHW; afterwards uint8 in NHWC, under the same name.
        card: of the model.

    Returns:
        The card of the changed model. It has no golden outputs, whose input is not pixels; and
        its preprocessing has the resizing left, and the identity for the rest.

    Raises:
        ConversionError: the card does not say how a picture becomes the input.
    """
    how = card.preprocessing
    if how is None:
        raise ConversionError("the model has no preprocessing that could be put into its graph")
    (picture,) = model.graph.input
    normalised = f"{_SCOPE}.subtract"
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == picture.name:
                node.input[index] = normalised
    _prepend(model.graph, how, picture.name, normalised)
    batch, _, height, width = (
        _entry(dimension) for dimension in picture.type.tensor_type.shape.dim
    )
    picture.CopyFrom(
        helper.make_tensor_value_info(
            picture.name, TensorProto.UINT8, [batch, height, width, how.channels]
        )
    )
    onnx.checker.check_model(model, full_check=True)
    ones, zeros = (1.0,) * how.channels, (0.0,) * how.channels
    return replace(
        card,
        preprocessing=replace(how, scale=1.0, mean=zeros, std=ones, layout="NHWC"),
        golden=None,
    )


def _prepend(graph: onnx.GraphProto, how: Preprocessing, source: str, target: str) -> None:
    """Put (pixel * scale - mean) / std in front, in the order and precision of the server's own.

    That is one multiplication and one subtraction in float32, the constants rounded once.
    """
    std = np.asarray(how.std, dtype=np.float64)
    constants = {
        f"{_SCOPE}.factor": how.scale / std,
        f"{_SCOPE}.offset": np.asarray(how.mean, dtype=np.float64) / std,
    }
    for name, values in constants.items():
        tensor = values.astype(np.float32).reshape(-1, 1, 1)
        graph.initializer.append(numpy_helper.from_array(tensor, name))
    steps: tuple[tuple[str, str, list[str], dict[str, Any]], ...] = (
        ("transpose", "Transpose", [source], {"perm": _TO_NCHW}),
        ("cast", "Cast", [f"{_SCOPE}.transpose"], {"to": TensorProto.FLOAT}),
        ("multiply", "Mul", [f"{_SCOPE}.cast", f"{_SCOPE}.factor"], {}),
        ("subtract", "Sub", [f"{_SCOPE}.multiply", f"{_SCOPE}.offset"], {}),
    )
    nodes = [
        helper.make_node(op_type, inputs, [f"{_SCOPE}.{name}"], f"{_SCOPE}.{name}", **attributes)
        for name, op_type, inputs, attributes in steps
    ]
    assert nodes[-1].output[0] == target
    for node in reversed(nodes):
        graph.node.insert(0, node)


def _entry(dimension: onnx.TensorShapeProto.Dimension) -> int | str:
    return dimension.dim_param or dimension.dim_value
