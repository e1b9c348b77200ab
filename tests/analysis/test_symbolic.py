from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convlens.analysis.bounds import evaluate, greatest, is_at_most, least, lower_bound
from convlens.analysis.dimensions import to_count, to_dim
from convlens.analysis.symbolic import Count, exact_quotient, symbol

H, N, W = symbol("H"), symbol("N"), symbol("W")
SIZES = st.fixed_dictionaries({name: st.integers(1, 300) for name in ("H", "N", "W")})


def _combined(children: st.SearchStrategy[Count]) -> st.SearchStrategy[Count]:
    numbers = st.integers(1, 9)
    return st.one_of(
        st.builds(lambda a, b: a + b, children, children),
        st.builds(lambda a, b: a - b, children, children),
        st.builds(lambda a, n: a * n, children, st.integers(-4, 4)),
        st.builds(lambda a, b: a * b, children, children),
        st.builds(lambda a, n: a // n, children, numbers),
        st.builds(lambda a, n: a % n, children, numbers),
        st.builds(least, children, children),
    )


COUNTS: st.SearchStrategy[Count] = st.recursive(
    st.one_of(st.integers(-20, 20), st.sampled_from([H, N, W])), _combined, max_leaves=8
)


@given(COUNTS)
def test_a_formula_is_read_back_from_its_text(count: Count) -> None:
    assert to_count(to_dim(count)) == count


@given(COUNTS, COUNTS, st.integers(1, 12), SIZES)
def test_arithmetic_on_formulas_is_arithmetic_on_their_values(
    left: Count, right: Count, divisor: int, sizes: dict[str, int]
) -> None:
    a, b = evaluate(left, sizes), evaluate(right, sizes)

    assert evaluate(left + right, sizes) == a + b
    assert evaluate(left - right, sizes) == a - b
    assert evaluate(left * right, sizes) == a * b
    assert evaluate(left // divisor, sizes) == a // divisor
    assert evaluate(left % divisor, sizes) == a % divisor
    assert evaluate(least(left, right), sizes) == min(a, b)
    assert evaluate(greatest(left, right), sizes) == max(a, b)


@given(COUNTS, COUNTS, SIZES)
def test_bounds_hold(left: Count, right: Count, sizes: dict[str, int]) -> None:
    bound = lower_bound(left)
    assert bound is None or bound <= evaluate(left, sizes)
    if is_at_most(left, right):
        assert evaluate(left, sizes) <= evaluate(right, sizes)


@given(COUNTS, COUNTS)
def test_a_product_is_divided_exactly_by_either_factor(left: Count, right: Count) -> None:
    if right != 0:
        assert exact_quotient(left * right, right) == left


def test_sizes_are_written_as_the_formula_of_a_window_gives_them() -> None:
    once = (H + 2 * 1 - 3) // 2 + 1
    twice = (once + 2 * 1 - 3) // 2 + 1

    assert str(once) == "floor((H - 1)/2) + 1"
    assert str(twice) == "floor((H - 1)/4) + 1"
    assert str((H + 2 * 2 - 11) // 4 + 1) == "floor((H - 7)/4) + 1"
    assert str((H - 2) // 2 + 1) == "floor(H/2)"
    assert str(64 * once * N) == "64*N*(floor((H - 1)/2) + 1)"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2*s0", 2 * symbol("s0")),
        ("((s0 - 1)//2) + 1", (symbol("s0") - 1) // 2 + 1),
        ("floor(h/2 - 1/2) + 1", (symbol("h") - 1) // 2 + 1),
        ("Max(1, s0)", symbol("s0")),
        ("batch", symbol("batch")),
        ("images.1_dim0", symbol("images.1_dim0")),
        ("9**9**9", symbol("9**9**9")),
        ("(" * 500, symbol("(" * 500)),
        ("h//0", symbol("h//0")),
        ("1/2", symbol("1/2")),
    ],
)
def test_dimensions_are_read_as_exporters_write_them(written: str, read: Count) -> None:
    assert to_count(written) == read


def test_a_rational_formula_is_rounded_down() -> None:
    assert floor(H / 2 + symbol("W") / 2) == (H + W) // 2


def test_a_quotient_of_a_rational_formula_keeps_its_fractions() -> None:
    assert (H / 2 + 1) // 2 == (H + 2) // 4
