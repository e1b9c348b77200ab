"""Values of a model card: read from JSON, and checked one by one.

Each function takes the name by which an error speaks of the value.

Raises:
    CardError: the value is none of that kind.
"""

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from convlens.analysis.errors import CardError

Json = Mapping[str, Any]

ORIGIN_CHARACTERS = 100


def read_object(name: str, value: Any) -> Json:
    """An object."""
    if not isinstance(value, dict):
        raise CardError(f"{name}: must be an object, is {value!r:.60}")
    return value


def read_list(name: str, value: Any) -> list[Any]:
    """A list that is not empty."""
    if not isinstance(value, list) or not value:
        raise CardError(f"{name}: must be a list with at least one entry, is {value!r:.60}")
    return value


def read_labels(value: Any) -> tuple[str, ...]:
    """The names of the classes, by index."""
    entries = read_list("labels", value)
    if not all(isinstance(entry, str) for entry in entries):
        raise CardError("labels: every entry must be a string")
    if any("\ud800" <= character <= "\udfff" for character in "".join(entries)):
        raise CardError("labels: half of a surrogate pair is no character")
    return tuple(entries)


def read_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """One of the allowed values, of the same type."""
    if value not in allowed or type(value) is not type(allowed[0]):
        raise CardError(f"{name}: must be one of {', '.join(map(repr, allowed))}, is {value!r:.60}")
    return value


def read_number(name: str, value: Any) -> float:
    """A finite number."""
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer beyond any float
            number = float(value)
    if not math.isfinite(number):
        raise CardError(f"{name}: must be a finite number, is {value!r:.60}")
    return number


def read_integer(name: str, value: Any, *, minimum: int, maximum: int | None = None) -> int:
    """An integer, and no truth value."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise CardError(f"{name}: must be an integer of at least {minimum}, is {value!r:.60}")
    if maximum is not None and value > maximum:
        raise CardError(f"{name}: must be at most {maximum}, is {value!r:.60}")
    return value


def read_rows(name: str, value: Any) -> tuple[tuple[float, ...], ...]:
    """Rows of numbers, all of one length."""
    rows = tuple(
        tuple(read_number(name, entry) for entry in read_list(name, row))
        for row in read_list(name, value)
    )
    if len(lengths := sorted({len(row) for row in rows})) > 1:
        raise CardError(f"{name}: every row must be as long, there are {lengths!r:.60}")
    return rows


def read_shape(name: str, value: Any, *, most: int) -> tuple[int, ...]:
    """The shape of an array of at most so many values."""
    shape = tuple(read_integer(name, entry, minimum=1) for entry in read_list(name, value))
    if math.prod(shape) > most:
        raise CardError(f"{name}: must be of at most {most} values, is {list(shape)!r:.60}")
    return shape


def read_weights(value: Any) -> Json:
    """Where the weights came from; the origin travels with every answer."""
    fields = read_object("weights", value)
    origin = fields.get("origin", "")
    is_short = isinstance(origin, str) and len(origin) <= ORIGIN_CHARACTERS
    if not (is_short and origin.isascii() and origin.isprintable()):
        raise CardError(
            f"weights.origin: must be one line of at most {ORIGIN_CHARACTERS} ASCII characters, "
            f"is {origin!r:.60}"
        )
    return fields


def read_model(value: Any) -> Json:
    """Name, family, input size, precision, and whether the outputs are probabilities."""
    fields = read_object("model", value)
    read_choice("model.softmax", fields.get("softmax", False), (True, False))
    if not isinstance(precision := fields.get("precision", ""), str):
        raise CardError(f"model.precision: must be a string, is {precision!r:.60}")
    return fields


def read_size(name: str, value: Any) -> tuple[int, int]:
    """(height, width), in pixels."""
    entries = read_list(name, value)
    if len(entries) != 2:
        raise CardError(f"{name}: must be [height, width], is {value!r:.60}")
    return read_integer(name, entries[0], minimum=1), read_integer(name, entries[1], minimum=1)


def read_resize(value: Any) -> int | tuple[int, int]:
    """The shorter side, or (height, width), in pixels."""
    if isinstance(value, list):
        return read_size("preprocessing.resize", value)
    return read_integer("preprocessing.resize", value, minimum=1)


def read_channels(name: str, value: Any, channels: int) -> tuple[float, ...]:
    """A number for each channel."""
    entries = read_list(name, value)
    if len(entries) != channels:
        raise CardError(f"{name}: must have {channels} entries for this color, has {len(entries)}")
    return tuple(read_number(name, entry) for entry in entries)
