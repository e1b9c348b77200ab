"""Regrouping: how a Reshape deals the digits of a tensor's index out to new axes."""

from collections.abc import Iterable, Sequence
from math import prod

from convlens.analysis.digits import Axis, Digit
from convlens.analysis.shape import Dim, Shape


def regroup(axes: Sequence[Axis], shape: Shape) -> tuple[Axis, ...] | None:
    """Deal the digits out to the axes of `shape`, in row-major order, splitting where needed.

    Dimensions are matched from the front and from the back; one in between, which may be of
    unknown size, takes what is left.

    Args:
        axes: the digits of the tensor before the Reshape.
        shape: after it; as many elements as before.

    Returns:
        The digits of each new axis; None where an axis would begin inside a digit.
    """
    # What lay on two axes and walks on evenly may be split elsewhere than where it was joined.
    digits = list(
        _merged(
            digit
            for axis in axes
            for digit in axis
            if digit.length != 1 or digit.image_axis is not None
        )
    )
    front: list[Axis] = []
    for dim in shape:
        taken = _take(digits, dim, back=False)
        if taken is None:
            break
        front.append(taken)
    back: list[Axis] = []
    for dim in reversed(shape[len(front) :]):
        taken = _take(digits, dim, back=True)
        if taken is None:
            break
        back.insert(0, taken)
    missing = len(shape) - len(front) - len(back)
    if missing == 1:
        if not _can_make_up(digits, shape[len(front)]):
            return None
        front.append(tuple(digits))
    elif missing or any(digit.length != 1 for digit in digits):
        return None
    elif digits and front:
        # Axes of length 1 that walk along the image stay, so that what mixes them is noticed.
        front[-1] = (*front[-1], *digits)
    return tuple(
        _merged(axis) or (Digit(dim),) for axis, dim in zip((*front, *back), shape, strict=True)
    )


def _can_make_up(digits: Sequence[Digit], dim: Dim) -> bool:
    """Whether an axis of length `dim` may hold the digits, as far as the lengths are known."""
    lengths = [digit.length for digit in digits if isinstance(digit.length, int)]
    if isinstance(dim, str) or len(lengths) < len(digits):
        return True
    return prod(lengths) == dim


def _take(digits: list[Digit], dim: Dim, *, back: bool) -> Axis | None:
    """Remove from one end the digits that make up an axis of length `dim`; None where none do."""
    end = -1 if back else 0
    left, taken, wanted = list(digits), list[Digit](), dim
    if not isinstance(wanted, int) or wanted == 1:
        if left and left[end].length == wanted:
            taken.append(left.pop(end))
        elif wanted != 1:
            return None
    while isinstance(wanted, int) and wanted != 1:
        length = left[end].length if left else 0
        if not isinstance(length, int) or wanted < 1 or length < 1:
            return None
        digit = left.pop(end)
        if length > wanted:
            if length % wanted or digit.grid:
                return None
            slow, fast = _split(digit, length // wanted if back else wanted)
            digit, rest = (fast, slow) if back else (slow, fast)
            left.insert(len(left) if back else 0, rest)
            length = wanted
        if wanted % length:
            return None
        taken.insert(0 if back else len(taken), digit)
        wanted //= length
    digits[:] = left
    return tuple(taken)


def _split(digit: Digit, count: int) -> tuple[Digit, Digit]:
    """Split a digit into one of `count` values and a faster one below it."""
    assert isinstance(digit.length, int)
    below = digit.length // count
    return (
        Digit(count, digit.image_axis, digit.step * below),
        Digit(below, digit.image_axis, digit.step),
    )


def _merged(axis: Iterable[Digit]) -> Axis:
    """Join neighbouring digits that together walk evenly along one image axis."""
    merged: list[Digit] = []
    for digit in axis:
        last = merged[-1] if merged else None
        if last is not None and _continues(last, digit):
            assert isinstance(last.length, int)
            assert isinstance(digit.length, int)
            merged[-1] = Digit(last.length * digit.length, digit.image_axis, digit.step)
        else:
            merged.append(digit)
    return tuple(merged)


def _continues(slow: Digit, fast: Digit) -> bool:
    if not isinstance(slow.length, int) or not isinstance(fast.length, int):
        return False
    if slow.image_axis != fast.image_axis or slow.grid or fast.grid:
        return False
    return slow.image_axis is None or slow.step == fast.step * fast.length
