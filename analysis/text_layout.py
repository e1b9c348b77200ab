"""How a table of layers fits a given width: what is shortened first, and what is left out."""

from collections.abc import Sequence
from dataclasses import dataclass

from convlens.analysis.layer_table import COLUMNS, Column, Row

# Between two columns.
_GAP = 2
_SHORTEST_NAME = 14
_SHORTEST_OP = 7
# What a reader misses least goes first. What is left fits 60 characters.
_DROPPED_FIRST = ("start", "index", "stride", "op", "parameters")
_COUNTS = frozenset({"parameters", "macs"})


@dataclass(frozen=True)
class Layout:
    """The table as it is shown.

    Attributes:
        columns: that are shown.
        widths: of each, in characters.
        cells: of each row, one a column, fit to be printed and no longer than its width.
        dropped: the columns for which there is no room.
    """

    columns: tuple[Column, ...]
    widths: tuple[int, ...]
    cells: tuple[tuple[str, ...], ...]
    dropped: tuple[Column, ...]


def fit(rows: Sequence[Row], width: int) -> Layout:
    """Lay the rows out for a width; a large one shows everything in full.

    Names lose their beginning, as it is their end that tells them apart. Where that is not enough,
    counts are abbreviated to three digits, and then columns are left out.
    """
    table = [[printable(cell) for cell in row.cells] for row in rows]
    texts = {column.key: [row[i] for row in table] for i, column in enumerate(COLUMNS)}
    dropped: list[str] = []
    if _needed(texts, dropped) > width:
        for key in _COUNTS:
            texts[key] = [_abbreviated(cell) for cell in texts[key]]
    for key in _DROPPED_FIRST:
        if _needed(texts, dropped) <= width:
            break
        dropped.append(key)
    widths = _widths(texts, dropped, width)
    return Layout(
        columns=tuple(column for column in COLUMNS if column.key not in dropped),
        widths=tuple(widths.values()),
        cells=tuple(
            tuple(_shortened(texts[key][i], length, key) for key, length in widths.items())
            for i in range(len(rows))
        ),
        dropped=tuple(column for column in COLUMNS if column.key in dropped),
    )


def printable(text: str) -> str:
    """The text with everything escaped that would move a terminal's cursor or change its colour."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _natural(texts: dict[str, list[str]], dropped: Sequence[str]) -> dict[str, int]:
    return {
        column.key: max(map(len, (column.heading, *texts[column.key])))
        for column in COLUMNS
        if column.key not in dropped
    }


def _needed(texts: dict[str, list[str]], dropped: Sequence[str]) -> int:
    """The width with names and operators as short as they may be."""
    widths = _natural(texts, dropped)
    widths["name"] = min(widths["name"], _SHORTEST_NAME)
    if "op" in widths:
        widths["op"] = min(widths["op"], _SHORTEST_OP)
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _widths(texts: dict[str, list[str]], dropped: Sequence[str], width: int) -> dict[str, int]:
    """The columns' widths; what is missing is taken from names and operators, in turn."""
    widths = _natural(texts, dropped)
    excess = sum(widths.values()) + _GAP * (len(widths) - 1) - width
    for key, shortest in (("op", _SHORTEST_OP), ("name", _SHORTEST_NAME), ("output", 6)):
        if key in widths and excess > 0:
            taken = min(excess, max(widths[key] - shortest, 0))
            widths[key] -= taken
            excess -= taken
    return widths


def _shortened(text: str, length: int, key: str) -> str:
    if len(text) <= length:
        return text
    return f"…{text[1 - length :]}" if key == "name" else f"{text[: length - 1]}…"


def _abbreviated(cell: str) -> str:
    """Write 1,849,688,064 as 1.85G."""
    digits = cell.replace(",", "")
    if not digits.isdecimal() or len(digits) < 4:
        return cell
    count, units = float(digits), " kMGTPE"
    exponent = min((len(digits) - 1) // 3, len(units) - 1)
    return f"{count / 1000**exponent:.3g}{units[exponent]}"
