"""Alignment: which layers of two networks are the same, when some are inserted or renamed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from convlens.analysis.errors import ComparisonError
from convlens.analysis.kernel_stack import windows_of
from convlens.analysis.layer import Layer

# What a layer costs that the other network has not; see `_POINTS`.
_GAP = -6
_NEVER = -1_000_000_000

# A byte each, and a second or two for all.
MAX_CELLS = 100_000_000

_MATCH, _ONLY_FIRST, _ONLY_SECOND = 0, 1, 2

Pair = tuple[Layer | None, Layer | None]


class _Structure(NamedTuple):
    """What the alignment looks at."""

    op_type: str
    weights: tuple[object, ...]
    name: str
    attributes: str
    channels: tuple[object, ...]
    shape: tuple[object, ...]


# What two layers of the same operator score for being so, and for each thing that agrees: in the
# order of `_Structure`.
_POINTS = np.array([20, 20, 20, 10, 10, 5])


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
    shape = layer.output_shape or ()
    return _Structure(
        op_type=layer.op_type,
        weights=tuple(tensor.shape for tensor in layer.inputs[1:]),
        name=layer.scope or layer.name,
        attributes=str(sorted(resolved_attributes(layer).items())),
        channels=shape[1:2],
        shape=shape,
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


def _aligned(
    first: Sequence[_Structure], second: Sequence[_Structure]
) -> list[tuple[int | None, int | None]]:
    """Fill the table of best scores row by row, then walk back through the moves that led there."""
    if len(first) * len(second) > MAX_CELLS:
        raise ComparisonError(
            f"{len(first):,} and {len(second):,} layers are too many to be compared"
        )
    rows, columns = _numbered(first, second)
    gaps = _GAP * np.arange(len(second) + 1)
    moves = np.full((len(first) + 1, len(second) + 1), _ONLY_SECOND, np.uint8)
    moves[1:, 0] = _ONLY_FIRST
    best = gaps
    for row, structure in enumerate(rows, start=1):
        agrees = columns == structure
        match = best[:-1] + np.where(agrees[:, 0], agrees @ _POINTS, _NEVER)
        only_first = best + _GAP
        either = np.maximum(match, only_first[1:])
        # The best way to a cell ends in either of these, and then goes on in the second alone.
        best = np.maximum.accumulate(np.append(only_first[0], either) - gaps) + gaps
        only_second = best[:-1] + _GAP
        moves[row, 1:][only_first[1:] >= only_second] = _ONLY_FIRST
        moves[row, 1:][match >= np.maximum(only_first[1:], only_second)] = _MATCH
    return _walked_back(moves, len(first), len(second))


def _numbered(*networks: Sequence[_Structure]) -> list[Any]:
    """Each network's structures as an array (layers, things): what is equal has one number."""
    numbers: dict[object, int] = {}
    return [
        np.array(
            [
                [numbers.setdefault(thing, len(numbers)) for thing in enumerate(structure)]
                for structure in structures
            ],
            np.int64,
        ).reshape(-1, len(_POINTS))
        for structures in networks
    ]


def _walked_back(
    moves: np.ndarray[Any, np.dtype[np.uint8]], row: int, column: int
) -> list[tuple[int | None, int | None]]:
    pairs: list[tuple[int | None, int | None]] = []
    while row or column:
        move = moves[row, column]
        row -= move != _ONLY_SECOND
        column -= move != _ONLY_FIRST
        pairs.append(
            (
                None if move == _ONLY_SECOND else row,
                None if move == _ONLY_FIRST else column,
            )
        )
    return pairs[::-1]
