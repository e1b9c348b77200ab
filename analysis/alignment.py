"""Alignment: which layers of two networks are the same, when some are inserted or renamed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from convlens.analysis.errors import ComparisonError
from convlens.analysis.kernel_stack import windows_of
from convlens.analysis.layer import Layer

# What two layers of the same operator score for being so, and for each thing that agrees.
_SAME_OPERATOR = 1.0
_SAME_WEIGHTS = 1.0
_SAME_NAME = 1.0
_SAME_ATTRIBUTES = 0.5
_SAME_CHANNELS = 0.5
_SAME_SHAPE = 0.25
# What a layer costs that the other network has not.
_GAP = -0.3

# A table of so many cells takes tens of seconds.
MAX_CELLS = 25_000_000

_MATCH, _ONLY_FIRST, _ONLY_SECOND = 0, 1, 2

Pair = tuple[Layer | None, Layer | None]


@dataclass(frozen=True)
class _Structure:
    """What the alignment looks at."""

    op_type: str
    weights: tuple[object, ...]
    attributes: str
    shape: tuple[object, ...]
    name: str


def align(first: Sequence[Layer], second: Sequence[Layer]) -> tuple[Pair, ...]:
    """Pair the layers of two networks, keeping the order of both.

    Only layers of the same operator are paired. Among all such alignments it is the one in which
    most agrees: weights' shapes, attributes, output shapes and, for what it is worth, names.

    Returns:
        Every layer of both once; None where a layer has no counterpart.

    Raises:
        ComparisonError: the networks are too large.

    Source: Needleman and Wunsch, "A general method applicable to the search for similarities in
        the amino acid sequence of two proteins", J. Mol. Biol. 48, 1970.
    """
    ours, theirs = [_structure(layer) for layer in first], [_structure(layer) for layer in second]
    begin, end = _common_ends(ours, theirs)
    stop_first, stop_second = len(ours) - end, len(theirs) - end
    middle = _aligned(ours[begin:stop_first], theirs[begin:stop_second])
    pairs: list[Pair] = list(zip(first[:begin], second[:begin], strict=True))
    pairs += [
        (
            None if index is None else first[begin + index],
            None if other is None else second[begin + other],
        )
        for index, other in middle
    ]
    pairs += zip(first[stop_first:], second[stop_second:], strict=True)
    return tuple(pairs)


def _structure(layer: Layer) -> _Structure:
    shape = layer.output_shape
    return _Structure(
        op_type=layer.op_type,
        weights=tuple(tensor.shape for tensor in layer.inputs[1:]),
        attributes=str(sorted(resolved_attributes(layer).items())),
        shape=shape or (),
        name=layer.scope or layer.name,
    )


def resolved_attributes(layer: Layer) -> dict[str, Any]:
    """The layer's attributes as plain values; those of a window are there even where left out."""
    attributes: dict[str, Any] = layer.to_json()["attributes"]
    windows = windows_of(layer)
    if windows is None:
        return attributes
    attributes.pop("auto_pad", None)
    if layer.op_type == "Conv":
        attributes.setdefault("group", 1)
    return attributes | {
        "kernel_shape": [window.kernel for window in windows],
        "strides": [window.stride for window in windows],
        "dilations": [window.dilation for window in windows],
        "pads": [
            *(window.pad_begin for window in windows),
            *(window.pad_end for window in windows),
        ],
    }


def _common_ends(first: Sequence[_Structure], second: Sequence[_Structure]) -> tuple[int, int]:
    """How many layers are equal in all respects at the beginning, and how many at the end."""
    shorter = min(len(first), len(second))
    begin = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    rest = shorter - begin
    end = next((i for i in range(rest) if first[-1 - i] != second[-1 - i]), rest)
    return begin, end


def _score(first: _Structure, second: _Structure) -> float | None:
    """How much two layers agree; None where they cannot be the same."""
    if first.op_type != second.op_type:
        return None
    return (
        _SAME_OPERATOR
        + _SAME_WEIGHTS * (first.weights == second.weights)
        + _SAME_NAME * (first.name == second.name)
        + _SAME_ATTRIBUTES * (first.attributes == second.attributes)
        + _SAME_CHANNELS * (first.shape[1:2] == second.shape[1:2])
        + _SAME_SHAPE * (first.shape == second.shape)
    )


def _aligned(
    first: Sequence[_Structure], second: Sequence[_Structure]
) -> list[tuple[int | None, int | None]]:
    """Fill the table of best scores row by row, then walk back through the moves that led there."""
    if len(first) * len(second) > MAX_CELLS:
        raise ComparisonError(
            f"{len(first):,} and {len(second):,} layers are too many to be compared"
        )
    scores = {pair: _score(*pair) for pair in product(set(first), set(second))}
    best = [index * _GAP for index in range(len(second) + 1)]
    moves = [bytearray([_ONLY_SECOND]) * (len(second) + 1)]
    for row, ours in enumerate(first, start=1):
        above, best = best, [row * _GAP]
        chosen = bytearray([_ONLY_FIRST])
        for column, theirs in enumerate(second, start=1):
            score = scores[ours, theirs]
            only_first, only_second = above[column] + _GAP, best[column - 1] + _GAP
            value, move = (
                (only_first, _ONLY_FIRST)
                if only_first >= only_second
                else (only_second, _ONLY_SECOND)
            )
            if score is not None and above[column - 1] + score >= value:
                value, move = above[column - 1] + score, _MATCH
            best.append(value)
            chosen.append(move)
        moves.append(chosen)
    return _walked_back(moves, len(first), len(second))


def _walked_back(
    moves: Sequence[bytearray], row: int, column: int
) -> list[tuple[int | None, int | None]]:
    pairs: list[tuple[int | None, int | None]] = []
    while row or column:
        move = _ONLY_FIRST if column == 0 else moves[row][column]
        row -= move != _ONLY_SECOND
        column -= move != _ONLY_FIRST
        pairs.append(
            (
                None if move == _ONLY_SECOND else row,
                None if move == _ONLY_FIRST else column,
            )
        )
    return pairs[::-1]
