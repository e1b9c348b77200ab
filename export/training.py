"""How a network learns from examples, and how well it then knows those it has not seen."""

import math
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
from convlens.export.digits import DATASET, load_digits, split_digits
from convlens.export.errors import TrainingError
from convlens.export.examples import Examples

_A_PASS = 256


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: passes over the training part.
        batch_size: pictures a step.
        peak_learning_rate: of AdamW, on a one-cycle schedule.
        label_smoothing: keeps the probabilities of so small a dataset honest.
        largest_shift: in pixels, each way: hands do not centre their digits. 0 where the inputs
            are not pictures.
        patience: epochs without a better validation loss after which the training stops, where
            there is a validation part.
    """

    epochs: int = 25
    batch_size: int = 64
    peak_learning_rate: float = 4e-3
    label_smoothing: float = 0.05
    largest_shift: int = 3
    patience: int = 15


def train_on_digits(network: nn.Module, seed: int, progress: Progress) -> Mapping[str, Any]:
    """Train a freshly initialised network in place on the digits' training part.

    Args:
        network: takes (batch, 1, 32, 32), gives (batch, 10) logits.
        seed: of the order and the shifts of the pictures.
        progress: called after each epoch.

    Returns:
        What the model card says of the weights, the measured held-out accuracy included.
    """
    training, held_out = (part.examples() for part in split_digits(load_digits()))
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
    network: nn.Module,
    examples: Examples,
    recipe: Recipe,
    seed: int,
    progress: Progress,
    validation: Examples | None = None,
) -> int:
    """Train `network` in place and leave it in evaluation mode; the same seed, the same weights.

    Args:
        network: takes the examples' inputs, gives (batch, classes) logits.
        examples: at least two.
        recipe: how.
        seed: of the order and the shifts of the examples.
        progress: called after each epoch.
        validation: the network keeps the weights of the epoch whose loss on these was least.

    Returns:
        How many epochs it took.

    Raises:
        TrainingError: the loss on the validation part was never a number.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = torch.from_numpy(examples.inputs), torch.from_numpy(examples.labels)
    # No batch of one, of which BatchNorm could not take the deviation.
    starts = range(0, len(examples) - 1, recipe.batch_size)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.peak_learning_rate, total_steps=recipe.epochs * len(starts)
    )
    best = _Best()
    epoch = 0
    with _one_thread():
        while epoch < recipe.epochs and epoch - best.epoch < recipe.patience:
            network.train()
            order = torch.randperm(len(examples), generator=generator)
            for start in starts:
                batch = order[start : start + recipe.batch_size]
                shifted = _shifted(inputs[batch], recipe.largest_shift, generator)
                loss = cross_entropy(
                    network(shifted), labels[batch], label_smoothing=recipe.label_smoothing
                )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation
                optimizer.step()
                schedule.step()
            epoch += 1
            network.eval()
            best = best.or_now(network, epoch, validation)
            progress(epoch, recipe.epochs)
    if best.state is None:
        raise TrainingError("the training diverged: its loss is not a number")
    network.load_state_dict(best.state)
    return epoch


def held_out_accuracy(network: nn.Module, held_out: Examples) -> float:
    """The share of the examples whose largest logit is their label's."""
    found = compute(network, held_out.inputs).argmax(dim=1).numpy()
    return round(float(np.mean(found == held_out.labels)), 4)


def compute(network: nn.Module, inputs: NDArray[np.float32]) -> Tensor:
    """What the network gives for all inputs, computed a part at a time."""
    with torch.no_grad():
        parts = torch.split(torch.from_numpy(inputs), _A_PASS)
        return torch.cat([network(part) for part in parts])


@dataclass(frozen=True)
class _Best:
    """The epoch with the least validation loss so far; without a validation part, the latest."""

    epoch: int = 0
    loss: float = math.inf
    state: Mapping[str, Tensor] | None = None

    def or_now(self, network: nn.Module, epoch: int, validation: Examples | None) -> "_Best":
        loss = self.loss
        if validation is not None:
            logits = compute(network, validation.inputs)
            loss = cross_entropy(logits, torch.from_numpy(validation.labels)).item()
            if not loss < self.loss:
                return self
        state = {name: value.clone() for name, value in network.state_dict().items()}
        return _Best(epoch, loss, state)


def _shifted(inputs: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    if largest == 0:
        return inputs
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
