"""Exact integer formulas in the symbolic dimensions of a graph: polynomials with floor and min.

    height = Expression.of(Symbol("H"))
    str((height + 2 - 3) // 2 + 1)     # "floor((H - 1)/2) + 1"

Two formulas that are equal as polynomials are equal as values and have the same text. A dimension
stands for a positive integer. A general computer algebra system does the same and more; importing
one takes longer than analysing a model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from math import floor, gcd, lcm
from operator import mul
from typing import Union

Coefficient = int | Fraction
Count = Union[int, "Expression"]

# Beyond it, an operand of a product becomes a symbol of its own text.
_MAX_PRODUCT_TERMS = 1024


@dataclass(frozen=True)
class Symbol:
    """A dimension whose size is not known."""

    name: str

    @cached_property
    def text(self) -> str:
        """The name."""
        return self.name


@dataclass(frozen=True)
class Floor:
    """floor(numerator / divisor); with an integer divisor the numerator is reduced modulo it."""

    numerator: "Count"
    divisor: "Count"

    @cached_property
    def text(self) -> str:
        """As it stands in a product: "(floor((H - 1)/2) + 1)"."""
        constant = constant_term(self.numerator)
        if isinstance(self.divisor, int) and constant:
            return f"({_quotient_text(self.numerator - self.divisor, self.divisor)} + 1)"
        return _quotient_text(self.numerator, self.divisor)


@dataclass(frozen=True)
class Least:
    """The smaller of two formulas."""

    first: "Count"
    second: "Count"

    @cached_property
    def text(self) -> str:
        """As "min(H, 100)"."""
        return f"min({self.first}, {self.second})"


Atom = Symbol | Floor | Least
# Atoms with their powers, by their texts.
Monomial = tuple[tuple[Atom, int], ...]


@dataclass(frozen=True)
class Expression:
    """A polynomial that is no integer; operations whose result is one give an int.

    Attributes:
        terms: monomials with their coefficients, none 0, in the order in which they are written.
    """

    terms: tuple[tuple[Monomial, Coefficient], ...]

    @staticmethod
    def of(atom: Atom) -> "Expression":
        """The atom as a formula."""
        return Expression(((((atom, 1),), 1),))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __add__(self, other: Count | Fraction) -> Count:
        terms = dict(self.terms)
        for monomial, coefficient in _terms(other):
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return _expression(terms)

    __radd__ = __add__

    def __neg__(self) -> Count:
        return self * -1

    def __sub__(self, other: Count | Fraction) -> Count:
        return self + other * -1

    def __rsub__(self, other: int) -> Count:
        return self * -1 + other

    def __mul__(self, other: Count | Fraction) -> Count:
        if not isinstance(other, Expression):
            return _expression({monomial: c * other for monomial, c in self.terms})
        if len(self.terms) * len(other.terms) > _MAX_PRODUCT_TERMS:
            if len(self.terms) < len(other.terms):
                return other * self
            return Expression.of(Symbol(f"({self})")) * other
        terms: dict[Monomial, Coefficient] = {}
        for left, left_coefficient in self.terms:
            for right, right_coefficient in other.terms:
                monomial = _product(left, right)
                terms[monomial] = terms.get(monomial, 0) + left_coefficient * right_coefficient
        return _expression(terms)

    __rmul__ = __mul__

    def __truediv__(self, other: int | Fraction) -> Count:
        return self * (1 / Fraction(other))

    def __floordiv__(self, other: Count) -> Count:
        return floor_quotient(self, other)

    def __rfloordiv__(self, other: int) -> Count:
        return floor_quotient(other, self)

    def __mod__(self, other: Count) -> Count:
        return self - other * (self // other)

    def __rmod__(self, other: int) -> Count:
        return other - self * (other // self)

    def __floor__(self) -> Count:
        return floor_quotient(self, 1)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return _sum_text(self)


def symbol(name: str) -> Expression:
    """The dimension of that name."""
    return Expression.of(Symbol(name))


def product(factors: Iterable[Count]) -> Count:
    """The product of all factors."""
    return reduce(mul, factors, 1)


def floor_quotient(dividend: Count, divisor: Count) -> Count:
    """floor(dividend / divisor), as far as it can be carried out.

    Raises:
        ZeroDivisionError: the divisor is 0.
    """
    if isinstance(divisor, Expression):
        exact = exact_quotient(dividend, divisor)
        return Expression.of(Floor(dividend, divisor)) if exact is None else exact
    if isinstance(dividend, int):
        return dividend // divisor
    if divisor < 0:
        return floor_quotient(-dividend, -divisor)
    denominator = lcm(*(Fraction(c).denominator for _, c in dividend.terms))
    if denominator > 1:
        return floor_quotient(dividend * denominator, divisor * denominator)
    whole = _expression({monomial: floor(c / divisor) for monomial, c in dividend.terms})
    return whole + _fraction_floor(dividend - whole * divisor, divisor)


def _fraction_floor(rest: Count, divisor: int) -> Count:
    """floor(rest / divisor), every coefficient of the rest in [0, divisor)."""
    if not isinstance(rest, Expression):
        return floor(Fraction(rest) / divisor)
    constant = floor(constant_term(rest))
    variable = rest - constant
    assert isinstance(variable, Expression)
    factor = gcd(divisor, *(int(c) for _, c in variable.terms))
    if factor > 1:
        return floor_quotient(variable / factor + constant // factor, divisor // factor)
    inner = _only_floor(variable)
    if inner is not None and isinstance(inner.divisor, int):
        # floor((floor(n/d) + c)/q) = floor((n + c*d)/(d*q))
        return floor_quotient(inner.numerator + constant * inner.divisor, inner.divisor * divisor)
    return Expression.of(Floor(rest, divisor))


def exact_quotient(dividend: Count, divisor: Count) -> Count | None:
    """The polynomial that makes dividend when multiplied by divisor; None where there is none."""
    if not isinstance(divisor, Expression):
        if divisor == 0:
            return None
        whole = dividend // divisor
        return whole if whole * divisor == dividend else None
    order = _degree_order((*_terms(dividend), *divisor.terms))
    lead, lead_coefficient = max(divisor.terms, key=lambda term: order(term[0]))
    rest: Count = dividend
    result: Count = 0
    for _ in range(_MAX_PRODUCT_TERMS):
        if rest == 0:
            return result
        monomial, coefficient = max(_terms(rest), key=lambda term: order(term[0]))
        ratio, shared = Fraction(coefficient) / lead_coefficient, _quotient(monomial, lead)
        if shared is None or ratio.denominator != 1:
            return None
        step = _expression({shared: int(ratio)})
        rest, result = rest - step * divisor, result + step
    return None


def constant_term(count: Count) -> Coefficient:
    """The term without a dimension."""
    return next((coefficient for monomial, coefficient in _terms(count) if not monomial), 0)


def _terms(count: Count | Fraction) -> tuple[tuple[Monomial, Coefficient], ...]:
    return count.terms if isinstance(count, Expression) else (((), count),)


def _expression(terms: Mapping[Monomial, Coefficient]) -> Count:
    kept = {
        monomial: coefficient.numerator if coefficient.denominator == 1 else coefficient
        for monomial, coefficient in terms.items()
        if coefficient != 0
    }
    if not kept:
        return 0
    constant = kept.get((), 0)
    if len(kept) == 1 and isinstance(constant, int) and constant:
        return constant
    return Expression(tuple(sorted(kept.items(), key=_writing_order)))


def _writing_order(term: tuple[Monomial, Coefficient]) -> tuple[int, str]:
    """Higher powers first, then by the alphabet."""
    monomial = term[0]
    return -sum(power for _, power in monomial), "*".join(atom.text for atom, _ in monomial)


def _atom_order(item: tuple[Atom, int]) -> tuple[bool, str]:
    """Names before formulas."""
    return not isinstance(item[0], Symbol), item[0].text


def _product(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    powers = dict(left)
    for atom, power in right:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=_atom_order))


def _quotient(dividend: Monomial, divisor: Monomial) -> Monomial | None:
    powers = dict(dividend)
    for atom, power in divisor:
        powers[atom] = powers.get(atom, 0) - power
    if min(powers.values(), default=0) < 0:
        return None
    return tuple((atom, power) for atom, power in powers.items() if power)


def _degree_order(terms: Iterable[tuple[Monomial, Coefficient]]):  # type: ignore[no-untyped-def]
    """A key by which a product's leading monomial is the product of the leading monomials."""
    atoms = sorted({atom for monomial, _ in terms for atom, _ in monomial}, key=lambda a: a.text)

    def key(monomial: Monomial) -> tuple[int, ...]:
        powers = dict(monomial)
        return sum(powers.values()), *(powers.get(atom, 0) for atom in atoms)

    return key


def _only_floor(count: Expression) -> Floor | None:
    """The floor that the formula consists of."""
    if len(count.terms) != 1:
        return None
    monomial, coefficient = count.terms[0]
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return None
    atom = monomial[0][0]
    return atom if isinstance(atom, Floor) else None


def _sum_text(count: Expression) -> str:
    constant = constant_term(count)
    variable = count - constant
    only = _only_floor(variable) if isinstance(variable, Expression) else None
    if only is not None and isinstance(only.divisor, int) and isinstance(constant, int):
        # The form in which output sizes are written: floor((W - k' + P)/S) + 1.
        if constant == 0 == constant_term(only.numerator):
            return _quotient_text(only.numerator, only.divisor)
        shifted = only.numerator + only.divisor * (constant - 1)
        return f"{_quotient_text(shifted, only.divisor)} + 1"
    text = ""
    for monomial, coefficient in count.terms:
        sign = "-" if coefficient < 0 else "+"
        term = _term_text(monomial, abs(Fraction(coefficient)))
        text += f" {sign} {term}" if text else f"-{term}" if sign == "-" else term
    return text


def _term_text(monomial: Monomial, coefficient: Coefficient) -> str:
    factors = [atom.text for atom, power in monomial for _ in range(power)]
    if coefficient != 1 or not factors:
        factors.insert(0, str(coefficient))
    return "*".join(factors)


def _quotient_text(dividend: Count, divisor: Count) -> str:
    return f"floor({_operand_text(dividend)}/{_operand_text(divisor)})"


def _operand_text(count: Count) -> str:
    text = str(count)
    return text if isinstance(count, int) or text.isidentifier() else f"({text})"
