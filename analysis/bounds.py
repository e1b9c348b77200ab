"""Bounds of formulas: what one comes to at given sizes, at least, and which of two is smaller."""

from collections.abc import Mapping
from fractions import Fraction
from math import floor

from convlens.analysis.symbolic import Atom, Coefficient, Count, Expression, Floor, Least, Symbol

# What `is_bounded` allows.
_MAX_TERMS, _MAX_TEXT_LENGTH, _MAX_INTEGER = 64, 1000, 2**63


def least(first: Count, second: Count) -> Count:
    """The smaller of two formulas, where it can be told which is; else "min(...)"."""
    if is_at_most(first, second):
        return first
    if is_at_most(second, first):
        return second
    return Expression.of(Least(*sorted((first, second), key=str)))


def greatest(first: Count, second: Count) -> Count:
    """The larger of two formulas."""
    return -least(-first, -second)


def is_at_most(first: Count, second: Count) -> bool:
    """Whether first <= second can be told, whatever the dimensions are."""
    bound = lower_bound(second - first)
    return bound is not None and bound >= 0


def lower_bound(count: Count | Fraction) -> int | None:
    """A number that the formula is not below, every dimension being at least 1; None unknown."""
    if not isinstance(count, Expression):
        return floor(count)
    total: Coefficient = 0
    for monomial, coefficient in count.terms:
        bound: Coefficient = coefficient
        for atom, power in monomial:
            least_value = _atom_bound(atom)
            if coefficient < 0 or least_value is None or least_value < 0:
                return None
            bound *= least_value**power
        total += bound
    return floor(total)


def _atom_bound(atom: Atom) -> int | None:
    if isinstance(atom, Symbol):
        return 1
    if isinstance(atom, Floor):
        below = lower_bound(atom.numerator)
        if below is None or below < 0:
            return None
        return below // atom.divisor if isinstance(atom.divisor, int) else 0
    first, second = lower_bound(atom.first), lower_bound(atom.second)
    return None if first is None or second is None else min(first, second)


def evaluate(count: Count, sizes: Mapping[str, int]) -> int:
    """The formula's value; a dimension that `sizes` lacks counts as 1."""
    if isinstance(count, int):
        return count
    total: Coefficient = 0
    for monomial, coefficient in count.terms:
        value = coefficient
        for atom, power in monomial:
            value *= _evaluate_atom(atom, sizes) ** power
        total += value
    return floor(total)


def _evaluate_atom(atom: Atom, sizes: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        return sizes.get(atom.name, 1)
    if isinstance(atom, Least):
        return min(evaluate(atom.first, sizes), evaluate(atom.second, sizes))
    divisor = evaluate(atom.divisor, sizes)
    return evaluate(atom.numerator, sizes) // divisor if divisor else 0


def is_bounded(count: Count | Fraction) -> bool:
    """Whether the formula is of a size that real networks have, and hostile files exceed."""
    if isinstance(count, Expression):
        return len(count.terms) <= _MAX_TERMS and len(str(count)) <= _MAX_TEXT_LENGTH
    return -_MAX_INTEGER < count < _MAX_INTEGER
