"""The recipe by which a small network learns the handwritten digits."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from convlens.export.architecture import Progress
from convlens.export.digits import DATASET, Digits, load_digits, split_digits


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the training part.
        batch_size: pictures a step.
        peak_learning_rate: of AdamW, on a one-cycle schedule.
        label_smoothing: keeps the probabilities of so small a dataset honest.
        largest_shift: in pixels, each way: hands do not centre their digits.
    """

    epochs: int = 25
    batch_size: int = 64
    peak_learning_rate: float = 4e-3
    label_smoothing: float = 0.05
    largest_shift: int = 3


def train_on_digits(network: nn.Module, seed: int, progress: Progress) -> Mapping[str, Any]:
    """Train a freshly initialised network in place on the digits' training part.

    Args:
        network: takes (batch, 1, 32, 32), gives (batch, 10) logits.
        seed: of the order and the shifts of the pictures.
        progress: called after each epoch.

    Returns:
        What the model card says of the weights, the measured held-out accuracy included.
    """
    training, held_out = split_digits(load_digits())
    train(network, training, Recipe(), seed, progress)
    return {
        "origin": "trained",
        "dataset": DATASET,
        "accuracy": {"held_out_top1": held_out_accuracy(network, held_out)},
        "held_out": len(held_out),
        "seed": seed,
        "source": "convlens.export.training",
    }


def train(
    network: nn.Module, digits: Digits, recipe: Recipe, seed: int, progress: Progress
) -> None:
    """Train `network` in place and leave it in evaluation mode; the same seed, the same weights."""
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = torch.from_numpy(digits.inputs()), torch.from_numpy(digits.labels)
    batches = -(-len(digits) // recipe.batch_size)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_learning_rate, total_steps=recipe.epochs * batches
    )
    network.train()
    with _one_thread():
        for epoch in range(recipe.epochs):
            order = torch.randperm(len(digits), generator=generator)
            for start in range(0, len(digits), recipe.batch_size):
                batch = order[start : start + recipe.batch_size]
                logits = network(_shifted(inputs[batch], recipe.largest_shift, generator))
                loss = cross_entropy(logits, labels[batch], label_smoothing=recipe.label_smoothing)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation
                optimizer.step()
                schedule.step()
            progress(epoch + 1, recipe.epochs)
    network.eval()


def held_out_accuracy(network: nn.Module, held_out: Digits) -> float:
    """The share of the pictures whose largest logit is their label's."""
    with torch.no_grad():
        logits: NDArray[np.float32] = network(torch.from_numpy(held_out.inputs())).numpy()
    return round(float(np.mean(logits.argmax(axis=1) == held_out.labels)), 4)


def _shifted(inputs: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    height, width = inputs.shape[2:]
    background = float(inputs.min())
    padded = pad(inputs, (largest,) * 4, value=background)
    offsets = torch.randint(2 * largest + 1, (len(inputs), 2), generator=generator).tolist()
    return torch.stack(
        [
            picture[:, top : top + height, left : left + width]
            for picture, (top, left) in zip(padded, offsets, strict=True)
        ]
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    # The order in which threads add up gradients would change the weights from run to run.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
