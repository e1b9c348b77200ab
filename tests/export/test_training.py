import torch

from convlens.export.digits import load_digits, split_digits
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
