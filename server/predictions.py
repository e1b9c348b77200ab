"""A row of outputs becomes the most probable classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from convlens.analysis.card import ModelCard

Row = np.ndarray[Any, np.dtype[Any]]

DEFAULT_TOP_K = 5


@dataclass(frozen=True)
class Prediction:
    """One class and its probability; the label is empty where the model carries none."""

    index: int
    label: str
    probability: float


def softmax(logits: Row) -> Row:
    """Probabilities of one row of logits, computed in float64 and without overflow."""
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    probabilities: Row = shifted / shifted.sum()
    return probabilities


def top_k(row: Row, card: ModelCard, k: int) -> tuple[Prediction, ...]:
    """The `k` most probable classes, the most probable first; ties go to the lower index.

    Args:
        row: (classes,), logits or, where the card says so, probabilities.
        card: of the model.
        k: 0 means `DEFAULT_TOP_K`; more than there are classes means all.
    """
    row = row.reshape(-1)
    probabilities = row if card.softmax else softmax(row)
    order = np.argsort(-probabilities, kind="stable")[: k or DEFAULT_TOP_K]
    labels = card.labels or ()
    return tuple(
        Prediction(
            index=int(index),
            label=labels[index] if index < len(labels) else "",
            probability=float(probabilities[index]),
        )
        for index in order
    )
