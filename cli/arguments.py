"""Types of command-line values: each gives one line that says what would do."""

import argparse
import math
import re


def port(text: str) -> int:
    """A TCP port; 0 means a free one."""
    return _whole(text, 0, 65535)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1, 2**31 - 1)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0, 2**31 - 1)


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1, with commas between them."""
    return tuple(positive(part) for part in text.split(","))


def rates(text: str) -> tuple[float, ...]:
    """Numbers a second, above 0, with commas between them."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(0.0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"must be rates a second, as 100,200, is {text!r}")
    return values


def seconds(text: str) -> float:
    """A finite time, not negative."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, is {text!r}")
    return value


def some_seconds(text: str) -> float:
    """A finite time, more than none."""
    value = seconds(text)
    if value == 0.0:
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, is {text!r}")
    return value


def utf8(value: str) -> str:
    """What can be sent as text: the shell also passes bytes that are none."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"must be UTF-8 text, is {value!a}") from error
    return value


def picture_size(text: str) -> tuple[int, int]:
    """HxW, height and width of a picture."""
    match = re.fullmatch(r"([1-9]\d{0,8})x([1-9]\d{0,8})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW, as 224x224")
    return int(match[1]), int(match[2])


def _whole(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from {low} to {high}, is {text!r}"
        )
    return int(text)
