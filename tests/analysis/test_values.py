"""Small arrays do what numpy's do, and stored tensors are read as onnx reads them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from convlens.analysis.values import Values, broadcast_shape, concatenate, read_values

SHAPES = st.lists(st.integers(0, 3), max_size=3)


def _both(shape: list[int]) -> tuple[Values, np.ndarray[Any, Any]]:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    return Values.of(array.ravel().tolist(), array.shape), array


def _same(values: Values, array: np.ndarray[Any, Any]) -> bool:
    return values.shape == array.shape and list(values.ravel()) == array.ravel().tolist()


@given(shape=SHAPES, data=st.data())
def test_moving_entries_is_what_numpy_does(shape: list[int], data: st.DataObject) -> None:
    values, array = _both(shape)
    order = data.draw(st.permutations(range(len(shape))))
    cuts = [
        slice(data.draw(st.integers(-4, 4)), data.draw(st.none() | st.integers(-4, 4)), step)
        for step in data.draw(st.lists(st.sampled_from([-2, -1, 1, 2]), min_size=3))[: len(shape)]
    ]

    assert _same(values.transpose(order), array.transpose(order))
    assert _same(values.transpose(), array.transpose())
    assert _same(values.slice(cuts), array[tuple(cuts)])
    assert _same(values.squeeze(), np.squeeze(array))
    assert _same(values.expand_dims([0, -1]), np.expand_dims(array, (0, -1)))
    assert _same(values.broadcast_to([2, *shape]), np.broadcast_to(array, [2, *shape]))
    for axis, length in enumerate(shape):
        assert _same(concatenate([values, values], axis), np.concatenate([array] * 2, axis))
        if length:
            indices = np.array([[0], [-1]])
            taken = values.take(Values.of([0, -1], (2, 1)), axis)
            assert _same(taken, np.take(array, indices, axis=axis))


@given(first=SHAPES, second=SHAPES)
def test_shapes_broadcast_as_in_numpy(first: list[int], second: list[int]) -> None:
    try:
        expected = np.broadcast_shapes(tuple(first), tuple(second))
    except ValueError:
        with pytest.raises(ValueError, match="broadcast"):
            broadcast_shape([first, second])
    else:
        assert broadcast_shape([first, second]) == expected


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    ],
)
def test_a_stored_tensor_is_read_as_onnx_reads_it(dtype: str) -> None:
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)

    values = read_values(numpy_helper.from_array(array))

    assert values is not None
    assert _same(values, array)


def test_values_that_do_not_fill_the_shape_are_none() -> None:
    tensor = numpy_helper.from_array(np.arange(6))
    tensor.dims[:] = [7]

    assert read_values(tensor) is None
