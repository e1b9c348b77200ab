"""Between the dimensions of a shape, which are integers and texts, and exact formulas."""

import ast
import re
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import floor

from convlens.analysis.bounds import greatest, least
from convlens.analysis.symbolic import Count, Expression, Symbol

# A longer text, as only a hostile file has it, is a name.
_MAX_FORMULA_LENGTH = 2000

_BINARY: dict[type[ast.operator], Callable[[Count, Count], Count]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: lambda left, right: left % right,
}
_FUNCTIONS: dict[str, Callable[[Count, Count], Count]] = {
    "Max": greatest,
    "Min": least,
    "max": greatest,
    "min": least,
}


class _NotAFormulaError(Exception):
    """The text is a name."""


def to_count(dim: int | str) -> Count:
    """Read a dimension: an integer, a formula as this package writes it or an exporter, or a name.

    Exporters write "2*s0", "s0//2", "floor(h/2 - 1/2) + 1" and "Max(1, s0)".
    """
    return dim if isinstance(dim, int) else _parse(dim)


@lru_cache(maxsize=4096)  # networks repeat their blocks
def counts(shape: tuple[int | str, ...]) -> tuple[Count, ...]:
    """Read every dimension of a shape."""
    return tuple(map(to_count, shape))


def symbol_names(dim: str) -> set[str]:
    """The symbols of which a dimension is made, as {"H", "n"} of "n*floor(H/2)"."""
    functions = {"ceil", "floor", *_FUNCTIONS}
    return {name for name in re.findall(r"[^\W\d]\w*", dim) if name not in functions}


def to_dim(count: Count) -> int | str:
    """Write a formula as the dimension of a shape."""
    return count if isinstance(count, int) else str(count)


# A pure function; the same few dimensions come back in every shape.
@lru_cache(maxsize=4096)
def _parse(formula: str) -> Count:
    if formula.isidentifier():
        return Expression.of(Symbol(formula))
    try:
        if len(formula) > _MAX_FORMULA_LENGTH:
            raise _NotAFormulaError
        count = _read(ast.parse(formula.strip(), mode="eval").body)
    except (_NotAFormulaError, SyntaxError, ValueError, RecursionError, ZeroDivisionError):
        return Expression.of(Symbol(formula))
    return Expression.of(Symbol(formula)) if isinstance(count, Fraction) else count


def _read(tree: ast.expr) -> Count:
    match tree:
        case ast.Name(id=name):
            return Expression.of(Symbol(name))
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_read(operand)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            divisor = _read(right)
            if not isinstance(divisor, int):
                return _read(left) // divisor
            return _read(left) * Fraction(1, divisor)  # type: ignore[return-value]
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _BINARY:
            return _BINARY[type(operator)](_read(left), _read(right))
        case ast.Call(func=ast.Name(id="floor"), args=[argument]):
            return floor(_read(argument))
        case ast.Call(func=ast.Name(id=name), args=[left, right]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](_read(left), _read(right))
    raise _NotAFormulaError
