import numpy as np
import pytest
import torch
from torch import nn

from convlens.export.digits import load_digits, split_digits
from convlens.export.errors import TrainingError
from convlens.export.examples import Examples
from convlens.export.lenet5 import LeNet5
from convlens.export.training import Recipe, held_out_accuracy, train
from tests.export.support import Exported


def _train_briefly(seed: int) -> LeNet5:
    torch.manual_seed(7)
    network = LeNet5()
    training, _ = split_digits(load_digits())
    train(network, training.examples(), Recipe(epochs=1), seed, lambda _done, _total: None)
    return network


def test_the_recipe_reaches_98_percent_on_the_held_out_part(lenet5: Exported) -> None:
    _, held_out = split_digits(load_digits())
    assert held_out_accuracy(lenet5.network, held_out.examples()) >= 0.98
    assert lenet5.result.card.weights["accuracy"]["held_out_top1"] >= 0.98


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (_train_briefly(seed).c1.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_reports_each_epoch_and_leaves_the_threads_as_they_were() -> None:
    reports: list[tuple[int, int]] = []
    training, _ = split_digits(load_digits())
    threads = torch.get_num_threads()
    few = training.examples().select(torch.arange(128).numpy())
    train(LeNet5(), few, Recipe(epochs=3), 0, lambda *report: reports.append(report))
    assert reports == [(1, 3), (2, 3), (3, 3)]
    assert torch.get_num_threads() == threads


def _points(count: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    inputs = rng.normal(labels[:, np.newaxis] * 4.0, 1.0, (count, 2)).astype(np.float32)
    return Examples(inputs, labels.astype(np.int64))


def _fit(network: nn.Module, examples: Examples, validation: Examples) -> int:
    recipe = Recipe(epochs=60, batch_size=8, largest_shift=0, patience=3)
    return train(network, examples, recipe, 0, lambda _done, _total: None, validation)


def test_training_stops_once_the_validation_loss_rises_and_keeps_the_best_weights() -> None:
    contrary = _points(20, seed=1)
    contrary = Examples(contrary.inputs, 1 - contrary.labels)
    network = nn.Linear(2, 2)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    assert _fit(network, _points(80, seed=0), contrary) == 4
    # After the first epoch only, whose weights were the least wrong, are they still this small.
    assert network.weight.abs().max() < 0.02


def test_a_last_batch_of_one_does_not_stop_batch_norm() -> None:
    network = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    assert _fit(network, _points(17, seed=0), _points(20, seed=1)) >= 1
    assert not network.training


def test_a_loss_that_is_not_a_number_is_an_error() -> None:
    broken = Examples(np.full((16, 2), np.nan, dtype=np.float32), _points(16, seed=0).labels)
    with pytest.raises(TrainingError, match="diverged"):
        _fit(nn.Linear(2, 2), broken, _points(16, seed=1))
