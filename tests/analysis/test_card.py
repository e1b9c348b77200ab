"""A card that cannot be used is refused by the name of what is wrong, and costs no time."""

import json
from typing import Any

import pytest

from convlens.analysis.card import ModelCard
from convlens.analysis.errors import CardError

GOLDEN = {"seed": 0, "shape": [1, 2], "outputs": [[1.0, 2.0]], "tolerance": 1e-3}
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("golden", {**GOLDEN, "outputs": [[1], [2, 3]]}, "golden.outputs: every row"),
        ("golden", {**GOLDEN, "outputs": [[10**400]]}, "golden.outputs: must be a finite"),
        ("golden", {**GOLDEN, "seed": 2**40}, "golden.seed: must be at most 4294967295"),
        ("golden", {**GOLDEN, "shape": [100_000, 1, 32, 32]}, "golden.shape: must be of at most"),
        ("preprocessing", DEEP, "preprocessing: it is nested too deeply"),
        ("model", {"softmax": "no"}, "model.softmax: must be one of True, False"),
        ("model", {"precision": 16}, "model.precision: must be a string"),
        ("weights", {"origin": 5}, "weights.origin: must be one line"),
        ("weights", {"origin": "a\nb: c"}, "weights.origin: must be one line"),
        ("weights", {"origin": "x" * 100_000}, "weights.origin: must be one line"),
        ("labels", '["a\\ud800"]', "labels: half of a surrogate pair"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(part: str, value: Any, said: str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(CardError) as caught:
        ModelCard.from_metadata({f"convlens.{part}": text})
    assert f"metadata convlens.{said}" in str(caught.value)
    assert len(str(caught.value)) < 300
