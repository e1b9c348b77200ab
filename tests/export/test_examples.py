import numpy as np
import pytest

from convlens.export.examples import FEWEST_PER_CLASS, LARGEST_HELD_OUT, split


@pytest.mark.parametrize("held_out", [0.01, 0.2, LARGEST_HELD_OUT])
def test_each_part_has_members_of_each_class_however_few_there_are(held_out: float) -> None:
    labels = np.repeat(np.arange(3), [FEWEST_PER_CLASS, 40, 7]).astype(np.int64)
    parts = split(labels, held_out, seed=0)
    for part in (parts.training, parts.validation, parts.held_out):
        assert set(labels[part]) == {0, 1, 2}
    together = np.concatenate([parts.training, parts.validation, parts.held_out])
    assert sorted(together) == list(range(len(labels)))


def test_the_held_out_part_is_the_share_that_was_asked_for() -> None:
    parts = split(np.repeat(np.arange(2), 100).astype(np.int64), 0.3, seed=0)
    assert len(parts.held_out) == 60
    assert len(parts.validation) == 28


def test_another_seed_draws_other_parts() -> None:
    labels = np.repeat(np.arange(2), 50).astype(np.int64)
    first, again, other = (split(labels, 0.2, seed).held_out.tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other
