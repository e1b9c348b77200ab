"""What operators do to single entries of shape arithmetic: integers, fractions and formulas."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from convlens.analysis.bounds import is_at_most, least
from convlens.analysis.symbolic import Count, Expression, exact_quotient

_INTEGER = re.compile(r"(?P<unsigned>u)?int(?P<bits>\d+)")


def ratio(left: Any, right: Any) -> Any:
    """The quotient of floats; None where it has no formula."""
    if isinstance(right, Expression):
        return None if isinstance(left, Fraction) else exact_quotient(left, right)
    return left / Fraction(right)


def whole_quotient(left: Any, right: Any) -> Any:
    """Integer division towards zero, as ONNX has it; for formulas, which are sizes, it is floor."""
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left // right


def modulo(left: Any, right: Any) -> Any:
    """What is left over, with the sign of the divisor."""
    return left % right


def c_modulo(left: Any, right: Any) -> Any:
    """What is left over, with the sign of the dividend, as C has it; a formula is not negative."""
    if isinstance(left, Expression) or isinstance(right, Expression):
        return left % right
    rest = abs(left) % abs(right)
    return rest if left >= 0 else -rest


def equal(left: Any, right: Any) -> bool | None:
    """Whether they are equal; None where it hangs on a symbol."""
    if left == right:
        return True
    if not isinstance(left, Expression) and not isinstance(right, Expression):
        return False
    different = is_at_most(left + 1, right) or is_at_most(right + 1, left)
    return False if different else None


def less(left: Any, right: Any) -> bool | None:
    """Whether the left is smaller; None where it hangs on a symbol."""
    if not isinstance(left, Expression) and not isinstance(right, Expression):
        return bool(left < right)
    if is_at_most(left + 1, right):
        return True
    return False if is_at_most(right, left) else None


def less_or_equal(left: Any, right: Any) -> bool | None:
    """Whether the left is not larger; None where it hangs on a symbol."""
    greater = less(right, left)
    return None if greater is None else not greater


def extreme(function: Callable[[Count, Count], Count]) -> Callable[..., Any]:
    """The extreme of any entries, by `greatest` or `least` as far as formulas are among them."""

    def folded(*entries: Any) -> Any:
        result = entries[0]
        for entry in entries[1:]:
            numbers = not isinstance(result, Expression) and not isinstance(entry, Expression)
            plain = min if function is least else max
            result = plain(result, entry) if numbers else function(result, entry)
        return result

    return folded


def wrap_around(dtype: str) -> Callable[[Any], Any]:
    """What makes entries fit into a type: 200 + 100 is 44 as uint8. Formulas and floats stay."""
    found = _INTEGER.fullmatch(dtype)
    if found is None:
        return lambda entry: entry
    modulus = 2 ** int(found["bits"])
    lowest = 0 if found["unsigned"] else -(modulus // 2)

    def wrapped(entry: Any) -> Any:
        return (entry - lowest) % modulus + lowest if isinstance(entry, int) else entry

    return wrapped
