"""The tensor that brings encoded pictures in place of a model's own input."""

from collections.abc import Mapping, Sequence

from convlens.server.errors import InvalidTensorError
from convlens.server.tensor import Tensor, TensorSpec

PICTURES = "image"  # its name


def read_pictures(
    tensors: Mapping[str, Tensor], inputs: Sequence[TensorSpec]
) -> list[bytes] | None:
    """The pictures of a request; None where it brings the model's own inputs.

    Args:
        tensors: that the request brings, by name.
        inputs: of the model.

    Raises:
        InvalidTensorError: they come with other tensors, or in another shape than [n].
    """
    tensor = tensors.get(PICTURES)
    if tensor is None or tensor.datatype != "BYTES":
        return None
    if any((spec.name, spec.datatype) == (PICTURES, "BYTES") for spec in inputs):
        return None
    if len(tensors) != 1 or tensor.values.ndim != 1 or tensor.values.size == 0:
        raise InvalidTensorError(
            f"{len(tensors)} inputs, {PICTURES!r} of shape {list(tensor.values.shape)}: "
            f"pictures come as {PICTURES!r} alone, BYTES [n], at least one"
        )
    pictures: list[bytes] = tensor.values.tolist()
    return pictures
