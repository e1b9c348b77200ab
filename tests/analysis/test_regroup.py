import pytest

from convlens.analysis.digits import Digit
from convlens.analysis.regroup import regroup

IMAGE = ((Digit("n"),), (Digit(6),), (Digit(8, 0),), (Digit(10, 1),))


def test_a_flatten_puts_all_digits_on_one_axis() -> None:
    assert regroup(IMAGE, ("n", 480)) == ((Digit("n"),), (Digit(6), Digit(8, 0), Digit(10, 1)))


def test_undoing_a_flatten_gives_the_axes_back() -> None:
    flat = regroup(IMAGE, ("n", 480))
    assert flat is not None
    assert regroup(flat, ("n", 6, 8, 10)) == IMAGE


def test_rows_split_into_blocks_walk_by_whole_blocks() -> None:
    axes = regroup(IMAGE, ("n", 6, 2, 4, 10))
    assert axes == (
        (Digit("n"),),
        (Digit(6),),
        (Digit(2, 0, 4),),
        (Digit(4, 0, 1),),
        (Digit(10, 1),),
    )


def test_splitting_and_merging_rows_gives_them_back() -> None:
    split = regroup(IMAGE, ("n", 6, 2, 4, 10))
    assert split is not None
    assert regroup(split, ("n", 6, 8, 10)) == IMAGE


def test_a_dimension_of_unknown_size_takes_what_is_left() -> None:
    assert regroup(IMAGE, ("n", "?", 10)) == (
        (Digit("n"),),
        (Digit(6), Digit(8, 0)),
        (Digit(10, 1),),
    )


def test_symbolic_rows_and_columns_are_kept_apart_from_the_channels() -> None:
    axes = ((Digit(1),), (Digit(6),), (Digit("h", 0),), (Digit("w", 1),))
    assert regroup(axes, (1, 6, "h*w")) == (
        (Digit(1),), (Digit(6),), (Digit("h", 0), Digit("w", 1)),
    )  # fmt: skip


def test_axes_of_length_one_still_walk_after_a_squeeze() -> None:
    axes = ((Digit("n"),), (Digit(6),), (Digit(1, 0),), (Digit(1, 1),))
    assert regroup(axes, ("n", 6)) == ((Digit("n"),), (Digit(6), Digit(1, 0), Digit(1, 1)))


@pytest.mark.parametrize("shape", [("n", 7, 10), ("n", 5, 96), ("n", 6, 8), ("m", "k", 10)])
def test_shapes_that_cut_through_a_digit_are_not_guessed_at(shape: tuple[int | str, ...]) -> None:
    assert regroup(IMAGE, shape) is None
