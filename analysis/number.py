"""Numbers: integers, and fractions where a position lies between two pixels."""

from fractions import Fraction

Number = int | Fraction

# Longer than any picture; a size of a thousand halvings is too large for a float.
_LARGEST = 10**100


def plain(number: Number) -> Number:
    """The number as an int where it is one, with which arithmetic is ten times as fast."""
    if isinstance(number, int):
        return number
    return number.numerator if number.denominator == 1 else number


def to_float(number: Number) -> float:
    """The number as a picture or a comparison needs it; of those beyond 1e100 the size is lost."""
    return float(min(max(number, -_LARGEST), _LARGEST))
