"""A row of outputs becomes the most probable classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convlens.analysis.card import ModelCard
from convlens.server.errors import InvalidTensorError, ServerError
from convlens.server.tensor import Tensor

Row = np.ndarray[Any, np.dtype[Any]]

DEFAULT_TOP_K = 5
# So many are picked one by one, which is faster than to sort a thousand classes.
FEW = 8


@dataclass(frozen=True)
class Prediction:
    """One class and its probability; the label is empty where the model carries none."""

    index: int
    label: str
    probability: float


def softmax(logits: Row) -> Row:
    """Probabilities of one row of logits, computed in float64 and without overflow."""
    with np.errstate(invalid="ignore"):  # infinity less itself is NaN, which `top_k` looks for
        shifted = np.exp(logits.astype(np.float64) - logits.max())
    probabilities: Row = shifted / shifted.sum()
    return probabilities


def top_k(row: Row, card: ModelCard, k: int) -> tuple[Prediction, ...]:
    """The `k` most probable classes, the most probable first; ties go to the lower index.

    Args:
        row: (classes,), logits or, where the card says so, probabilities.
        card: of the model.
        k: 0 means `DEFAULT_TOP_K`; more than there are classes means all.

    Raises:
        ServerError: a logit or a probability is NaN or infinite.
    """
    row = row.reshape(-1)
    probabilities = row if card.softmax else softmax(row)
    if not np.isfinite(probabilities.sum()):
        raise ServerError("the model gave no numbers (NaN, or infinite ones) for this picture")
    labels = card.labels or ()
    return tuple(
        [
            Prediction(index, labels[index] if index < len(labels) else "", probability)
            for index, probability in _largest(probabilities, min(k or DEFAULT_TOP_K, row.size))
        ]
    )


def _largest(values: Row, k: int) -> list[tuple[int, float]]:
    """The `k` largest of (n,) values with their indices, as `top_k` orders them."""
    if k > FEW:
        order = np.argsort(-values, kind="stable")[:k]
        return list(zip(order.tolist(), values[order].tolist(), strict=True))
    largest = []
    rest = values.astype(np.float64)
    for _ in range(k):
        index = int(rest.argmax())
        largest.append((index, float(values[index])))
        rest[index] = -np.inf
    return largest


def classification(name: str, output: Tensor, labels: Sequence[str], k: int) -> Tensor:
    """The `k` highest values of each row as text; ties go to the lower index.

    Args:
        name: of the output.
        output: (batch, classes, ...), numbers; there is no softmax.
        labels: by index; used where there is one for each class.
        k: more than there are classes means all.

    Returns:
        BYTES (batch, min(k, classes)), each "value:index:label" or, without labels, "value:index";
        a colon within a label becomes a hyphen.

    Raises:
        InvalidTensorError: the output is no numbers of such a shape, or `k` is not positive.
    """
    values = output.values
    if values.ndim < 2 or output.datatype in ("BYTES", "BOOL") or k < 1:
        raise InvalidTensorError(
            f"classification of output {name!r}: needs numbers of shape [batch, classes] and at "
            f"least 1 class; the output is {output.datatype} {list(values.shape)}, asked for {k}"
        )
    rows = values.reshape(len(values), -1).astype(np.float64)
    order = np.argsort(-rows, axis=1, kind="stable")[:, :k]
    suffixes = [""] * rows.shape[1]
    if len(labels) == len(suffixes):
        suffixes = [":" + label.replace(":", "-") for label in labels]
    texts = [
        [f"{row[index]:.6f}:{index}{suffixes[index]}" for index in indices]
        for row, indices in zip(rows, order, strict=True)
    ]
    return Tensor("BYTES", np.array(texts, dtype=object))
