"""Values of a model card: read from JSON, and checked one by one.

Each function takes the name by which an error speaks of the value.

Raises:
    CardError: the value is none of that kind.
"""

import math
from collections.abc import Mapping
from typing import Any

from convlens.analysis.errors import CardError

Json = Mapping[str, Any]


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
    return tuple(entries)


def read_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """One of the allowed values, of the same type."""
    if value not in allowed or type(value) is not type(allowed[0]):
        raise CardError(f"{name}: must be one of {', '.join(map(repr, allowed))}, is {value!r:.60}")
    return value


def read_number(name: str, value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CardError(f"{name}: must be a finite number, is {value!r:.60}")
    return float(value)


def read_integer(name: str, value: Any, *, minimum: int) -> int:
    """An integer, and no truth value."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise CardError(f"{name}: must be an integer of at least {minimum}, is {value!r:.60}")
    return value


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
