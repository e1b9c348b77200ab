"""Logits become the most probable classes."""

import numpy as np
import pytest

from convlens.analysis.card import ModelCard
from convlens.server.errors import ServerError
from convlens.server.predictions import top_k

ABC = ModelCard(labels=("a", "b", "c"))


def test_the_most_probable_comes_first_with_its_softmax() -> None:
    predictions = top_k(np.log(np.array([0.2, 0.5, 0.3], np.float32)), ABC, 2)
    assert [entry.label for entry in predictions] == ["b", "c"]
    assert [entry.probability for entry in predictions] == pytest.approx([0.5, 0.3])


def test_huge_logits_do_not_overflow() -> None:
    predictions = top_k(np.array([1e30, -1e30, 0], np.float32), ABC, 3)
    assert [entry.probability for entry in predictions] == [1.0, 0.0, 0.0]


def test_ties_go_to_the_lower_index() -> None:
    assert [entry.index for entry in top_k(np.zeros(3, np.float32), ABC, 3)] == [0, 1, 2]


@pytest.mark.parametrize("k", [1, 9])
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_no_answer(bad: float, softmax: bool, k: int) -> None:
    row = np.zeros(12, np.float32)
    row[3] = bad
    with pytest.raises(ServerError, match="the model gave no numbers"):
        top_k(row, ModelCard(model={"softmax": softmax}), k)


def test_a_class_that_is_out_of_the_question_is_one() -> None:
    (first,) = top_k(np.array([-np.inf, 1, -np.inf], np.float32), ABC, 1)
    assert (first.label, first.probability) == ("b", 1.0)


@pytest.mark.parametrize("k", [1, 5, 8, 9, 40])
def test_few_are_picked_as_many_are_sorted(k: int) -> None:
    row = np.random.default_rng(0).integers(0, 9, 30).astype(np.float32)  # with many ties
    expected = np.argsort(-row, kind="stable")[:k].tolist()
    assert [entry.index for entry in top_k(row, ModelCard(), k)] == expected


def test_probabilities_are_left_alone_where_the_card_says_softmax() -> None:
    card = ModelCard(labels=("a", "b"), model={"softmax": True})
    assert top_k(np.array([0.25, 0.75]), card, 1)[0].probability == 0.75


def test_a_class_without_a_label_has_an_empty_one() -> None:
    assert top_k(np.array([0.0, 1.0]), ModelCard(labels=("a",)), 1)[0].label == ""
