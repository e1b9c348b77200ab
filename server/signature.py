"""What a model takes and gives, and whether requests may share one of its runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from convlens.server.errors import InvalidTensorError, ModelLoadError
from convlens.server.providers import Node, Session
from convlens.server.tensor import DATATYPES, Array, Tensor, TensorSpec


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a graph.

    Attributes:
        inputs: in the graph's order.
        outputs: likewise; their shapes are what the file declares.
        batched: whether the first axis of every tensor is the batch, so that requests share runs.
            Its length is free, also where the file fixes it.
        fixed_batch: the length of the batch axis where the file fixes it.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    fixed_batch: int | None

    def arrange(self, tensors: Mapping[str, Tensor]) -> tuple[tuple[Array, ...], int]:
        """Put the tensors of a request into the graph's order.

        Returns:
            The inputs, and how many rows of a batch they are; 1 where requests share no runs.

        Raises:
            InvalidTensorError: a tensor is missing, unknown, or of another datatype or shape.
        """
        if tensors.keys() != {spec.name for spec in self.inputs}:
            raise self._misnamed(tensors)
        arrays = tuple([spec.values(tensors[spec.name]) for spec in self.inputs])
        return arrays, self._rows(arrays) if self.batched else 1

    def _misnamed(self, tensors: Mapping[str, Tensor]) -> InvalidTensorError:
        own = [spec.name for spec in self.inputs]
        for name in tensors:
            if name not in own:
                return InvalidTensorError(f"there is no input {name!r}; {self._takes()}")
        missing = next(name for name in own if name not in tensors)
        return InvalidTensorError(f"input {missing!r} is missing; {self._takes()}")

    def _takes(self) -> str:
        inputs = ", ".join(f"{spec.name!r} {spec}" for spec in self.inputs)
        return f"the model takes {inputs or 'none'}"

    def _rows(self, arrays: tuple[Array, ...]) -> int:
        first = len(arrays[0])
        if first == 0 or any(len(array) != first for array in arrays[1:]):
            rows = [len(array) for array in arrays]
            raise InvalidTensorError(
                f"the inputs have {rows} rows; all need the same number, at least 1"
            )
        return first


def read_signature(session: Session, *, pictures: bool) -> Signature:
    """Read the signature of a graph.

    The first axis is the batch where every tensor has the same symbolic one, as exporters write
    it; or, whatever its name, where the model takes pictures: it answers with a row a picture.

    Args:
        session: of the model.
        pictures: whether the file carries what turns a picture into its input.

    Raises:
        ModelLoadError: there is no output; something is no tensor, or of a type that cannot be
            handed over; or the file fixes the batch, and an output lacks it.
    """
    if not session.get_outputs():
        raise ModelLoadError("it has no output")
    nodes = (*session.get_inputs(), *session.get_outputs())
    first_axes = {node.shape[0] if node.shape else None for node in nodes}
    named = len(first_axes) == 1 and isinstance(next(iter(first_axes)), str)
    fixed_batch = None
    if pictures and isinstance(batch := session.get_inputs()[0].shape[0], int):
        if first_axes != {batch}:
            raise ModelLoadError(f"its input has a batch of {batch}, and not all outputs have it")
        fixed_batch = batch
    inputs = tuple(_spec(node) for node in session.get_inputs())
    outputs = tuple(_spec(node) for node in session.get_outputs())
    if fixed_batch is not None:
        inputs, outputs = _free_batch(inputs), _free_batch(outputs)
    return Signature(inputs, outputs, named or pictures, fixed_batch)


def _spec(node: Node) -> TensorSpec:
    if node.type not in DATATYPES:
        raise ModelLoadError(f"{node.name!r} is {node.type}, which cannot be served")
    shape = tuple(length if isinstance(length, int) else None for length in node.shape or ())
    return TensorSpec(node.name, DATATYPES[node.type], shape)


def _free_batch(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(replace(spec, shape=(None, *spec.shape[1:])) for spec in specs)
