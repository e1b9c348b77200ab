"""Shape arithmetic: the values of the small integer tensors from which a graph computes shapes.

The entries are integers, fractions, truths and formulas.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import chain
from itertools import product as indices
from math import floor, isfinite, prod
from typing import Any

from convlens.analysis.bounds import greatest, is_at_most, is_bounded, least
from convlens.analysis.entry import (
    c_modulo,
    equal,
    extreme,
    less,
    less_or_equal,
    modulo,
    ratio,
    whole_quotient,
    wrap_around,
)
from convlens.analysis.graph import StoredTensor
from convlens.analysis.graph_reader import dtype_name
from convlens.analysis.shape_step import ShapeStep, cut, slice_bounds
from convlens.analysis.symbolic import Expression, product
from convlens.analysis.values import MAX_ENTRIES, Values, broadcast_shape, concatenate

_MAX_FLOATS = 32
# Operators whose result may not fit into the type of its integers.
_OVERFLOWING = frozenset({"Abs", "Add", "Cast", "Mul", "Neg", "ReduceProd", "ReduceSum", "Sub"})
# As many indices as no axis is long.
_MAX_RUN = 2**31


def stored_values(stored: StoredTensor) -> Values | None:
    """The values of a small stored tensor; None for a large one, or one that was not read."""
    if prod(stored.shape) > (_MAX_FLOATS if "float" in stored.dtype else MAX_ENTRIES):
        return None
    if stored.values is None or not all(map(isfinite, stored.values.ravel())):
        return None
    return stored.values.map(exact)


def exact(entry: float) -> Any:
    """A number as it is meant: 0.3333 as a float32 is a third of a pixel."""
    if not isinstance(entry, float):
        return entry
    near = Fraction(entry).limit_denominator(1000)
    return near if abs(near - Fraction(entry)) <= abs(entry) * 1e-6 else Fraction(entry)


def fold(step: ShapeStep) -> Values | None:
    """The values of the operator's first output; None where they cannot be told."""
    function = _FOLDS.get(step.node.op_type)
    if function is None:
        return None
    try:
        values = function(step)
    except (ArithmeticError, IndexError, TypeError, ValueError):
        # The operator cannot take these values; that its output is not known is the answer.
        return None
    if values is None or isinstance(values.entries, range):
        return values
    if values.size > MAX_ENTRIES:
        return None
    if step.node.op_type in _OVERFLOWING:
        values = values.map(wrap_around(_result_dtype(step)))
    return values if all(is_bounded(entry) for entry in values.ravel()) else None


def _result_dtype(step: ShapeStep) -> str:
    if step.node.op_type == "Cast":
        return dtype_name(step.attribute("to", 0))
    return next(iter(step.dtypes), "")


def _shape(step: ShapeStep) -> Values | None:
    shape = step.shape(0)
    if shape is None:
        return None
    return Values.of(shape[step.attribute("start", 0) : step.attribute("end")])


def _size(step: ShapeStep) -> Values | None:
    shape = step.shape(0)
    return None if shape is None else Values.of([product(shape)], ())


def _map(function: Callable[..., Any]) -> Callable[[ShapeStep], Values | None]:
    """An elementwise operator; an entry that cannot be told makes the whole not known."""

    def folded(step: ShapeStep) -> Values | None:
        values = step.all_values
        if values is None:
            return None
        shape = broadcast_shape(array.shape for array in values)
        if prod(shape) > MAX_ENTRIES:
            return None
        rows = zip(*(array.broadcast_to(shape).ravel() for array in values), strict=True)
        entries = [function(*row) for row in rows]
        return None if None in entries else Values.of(entries, shape)

    return folded


def _divide(step: ShapeStep) -> Values | None:
    # A size that was cast to a float is still an integer here: only its type tells.
    is_float = any("float" in dtype for dtype in step.dtypes)
    return _map(ratio if is_float else whole_quotient)(step)


def _modulo(step: ShapeStep) -> Values | None:
    return _map(c_modulo if step.attribute("fmod", 0) else modulo)(step)


def _where(step: ShapeStep) -> Values | None:
    condition = step.value(0)
    if condition is None:
        return None
    # The branch that is not taken may be unknown.
    if step.value(1) is None or step.value(2) is None:
        choice = 1 if all(condition.ravel()) else 2 if not any(condition.ravel()) else 0
        return step.value(choice) if choice else None
    return _map(lambda condition, yes, no: yes if condition else no)(step)


def _cast(step: ShapeStep) -> Values | None:
    values = step.value(0)
    if values is None:
        return None
    if step.attribute("to") == 9:  # TensorProto.BOOL
        return values.map(bool)
    if step.attribute("to") in {1, 10, 11, 16}:  # the floating-point types
        return values
    # Towards zero; a formula is a size, and not below it.
    return values.map(lambda entry: floor(entry) if isinstance(entry, Expression) else int(entry))


def _gather(step: ShapeStep) -> Values | None:
    data, indices = step.value(0), step.value(1)
    if data is None or indices is None:
        return None
    return data.take(indices, step.attribute("axis", 0))


def _concat(step: ShapeStep) -> Values | None:
    parts = step.all_values
    return None if parts is None else concatenate(parts, step.attribute("axis", 0))


def _slice(step: ShapeStep) -> Values | None:
    data = step.value(0, long=True)
    bounds = slice_bounds(step)
    if data is None or bounds is None:
        return None
    index: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, stride in bounds:
        index[axis] = cut(data.shape[axis], int(start), int(end), int(stride))
    return data.slice(index)


def _squeeze(step: ShapeStep) -> Values | None:
    data = step.value(0, long=True)
    axes = step.integers("axes", 1)
    if data is None or (step.has(1) and axes is None):
        return None
    return data.squeeze(None if axes is None else [int(axis) for axis in axes])


def _unsqueeze(step: ShapeStep) -> Values | None:
    data = step.value(0, long=True)
    axes = step.integers("axes", 1)
    if data is None or axes is None:
        return None
    return data.expand_dims([int(axis) for axis in axes])


def _reshape(step: ShapeStep) -> Values | None:
    data, target = step.value(0), step.value(1)
    if data is None or target is None:
        return None
    return data.reshape([int(dim) for dim in target.ravel()])


def _range(step: ShapeStep) -> Values | None:
    bounds = step.all_values
    if bounds is None:
        return None
    start, limit, delta = (values.item() for values in bounds)
    if not all(isinstance(entry, int) for entry in (start, limit, delta)):
        return None
    run = range(start, limit, delta)
    if len(run) > _MAX_RUN:
        return None
    return Values(run, (len(run),)) if len(run) > MAX_ENTRIES else Values.of(run)


def _constant_of_shape(step: ShapeStep) -> Values | None:
    shape = step.value(0)
    if shape is None or not all(isinstance(dim, int) for dim in shape.ravel()):
        return None
    dims = [int(dim) for dim in shape.ravel()]
    value = step.attribute("value")
    fill = 0 if value is None or value.values is None else exact(value.values.ravel()[0])
    return None if prod(dims) > MAX_ENTRIES else Values.of([fill] * prod(dims), dims)


def _expand(step: ShapeStep) -> Values | None:
    data, target = step.value(0), step.value(1)
    if data is None or target is None:
        return None
    dims = broadcast_shape([data.shape, [int(dim) for dim in target.ravel()]])
    return None if prod(dims) > MAX_ENTRIES else data.broadcast_to(dims)


def _transpose(step: ShapeStep) -> Values | None:
    data = step.value(0)
    return None if data is None else data.transpose(step.attribute("perm"))


def _identity(step: ShapeStep) -> Values | None:
    return step.value(0, long=True)


def _non_zero(step: ShapeStep) -> Values | None:
    data = step.value(0)
    if (
        data is None
        or not data.ndim
        or any(isinstance(entry, Expression) for entry in data.ravel())
    ):
        return None
    places = indices(*map(range, data.shape))
    found = [place for place, entry in zip(places, data.ravel(), strict=True) if entry]
    return Values.of(chain.from_iterable(zip(*found, strict=True)), (data.ndim, len(found)))


def _reduce(function: Callable[..., Any]) -> Callable[[ShapeStep], Values | None]:
    """A reduction of a list to one number."""

    def folded(step: ShapeStep) -> Values | None:
        data = step.value(0)
        if data is None or data.ndim != 1 or not data.size:
            return None
        if step.attribute("noop_with_empty_axes", 0) and not step.integers("axes", 1):
            return None if step.has(1) and step.value(1) is None else data
        shape = (1,) if step.attribute("keepdims", 1) else ()
        return Values.of([function(*data.ravel())], shape)

    return folded


_FOLDS: Mapping[str, Callable[[ShapeStep], Values | None]] = {
    "Abs": _map(lambda entry: entry if is_at_most(0, entry) else abs(entry)),
    "Add": _map(lambda left, right: left + right),
    "And": _map(lambda left, right: left and right),
    "Cast": _cast,
    "Ceil": _map(lambda entry: -floor(-entry)),
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _divide,
    "Equal": _map(equal),
    "Expand": _expand,
    "Floor": _map(floor),
    "Gather": _gather,
    "Greater": _map(lambda left, right: less(right, left)),
    "GreaterOrEqual": _map(lambda left, right: less_or_equal(right, left)),
    "Identity": _identity,
    "Less": _map(less),
    "LessOrEqual": _map(less_or_equal),
    "Max": _map(extreme(greatest)),
    "Min": _map(extreme(least)),
    "Mod": _modulo,
    "Mul": _map(lambda left, right: left * right),
    "Neg": _map(lambda entry: -entry),
    "NonZero": _non_zero,
    "Not": _map(lambda entry: not entry),
    "Or": _map(lambda left, right: left or right),
    "Range": _range,
    "Reciprocal": _map(lambda entry: 1 / Fraction(entry)),
    "ReduceMax": _reduce(extreme(greatest)),
    "ReduceMin": _reduce(extreme(least)),
    "ReduceProd": _reduce(lambda *entries: product(entries)),
    "ReduceSum": _reduce(lambda *entries: sum(entries)),
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _map(lambda left, right: left - right),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
