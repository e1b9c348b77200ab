from fractions import Fraction

from convlens.analysis import ReceptiveField
from convlens.analysis.clipping import centre, clipped, corner

_FIELD = ReceptiveField(size=(5, 5), stride=(2, 2), start=(-2, -2))


def test_the_corner_unit_of_a_padded_network_looks_mostly_into_the_padding() -> None:
    seen = clipped(_FIELD, (10, 10), corner((5, 5)))

    assert seen is not None
    assert (seen.begin, seen.end) == ((0, 0), (3, 3))
    assert seen.coverage == Fraction(9, 100)
    assert seen.padding == 1 - Fraction(9, 25)


def test_the_centre_unit_sees_its_whole_window() -> None:
    seen = clipped(_FIELD, (10, 10), centre((5, 5)))

    assert seen is not None
    assert (seen.begin, seen.end) == ((2, 2), (7, 7))
    assert seen.padding == 0


def test_a_window_larger_than_the_picture_sees_all_of_it() -> None:
    field = ReceptiveField(size=(427, 427), stride=(32, 32), start=(-213, -213))
    seen = clipped(field, (224, 224), centre((7, 7)))

    assert seen is not None
    assert seen.coverage == 1
    assert seen.padding == 1 - Fraction(224 * 224, 427 * 427)


def test_an_axis_without_a_local_path_is_seen_as_a_whole() -> None:
    field = ReceptiveField(size=(1, None), stride=(1, None), start=(0, None))
    seen = clipped(field, (4, 6), (2, 0))

    assert seen is not None
    assert (seen.begin, seen.end) == ((2, 0), (3, 6))
    assert seen.padding == 0


def test_without_a_local_path_there_is_nothing_to_clip() -> None:
    assert clipped(ReceptiveField(global_since="pool"), (4, 4), (0, 0)) is None
