"""What an exported file no longer shows: the BatchNorm layers folded into convolutions."""

from collections.abc import Mapping
from dataclasses import dataclass

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class FoldedBatchNorm:
    """How many more numbers the network computes with than its file stores.

    Attributes:
        learnable: scales and biases folded away, less the biases that folding gave convolutions:
            added to what the file stores, it makes the network's own count.
        statistics: running means and variances folded away.
    """

    learnable: int
    statistics: int


def folded_batch_norm(before: Mapping[str, int], after: Mapping[str, int]) -> FoldedBatchNorm:
    """Compare what a graph stored before and after its BatchNorms were folded.

    A graph, unlike its network, has no layers that are never run, and no scales and biases of a
    BatchNorm without them.

    Args:
        before: how many numbers each initializer has, by the network's names.
        after: likewise.
    """
    folded = {
        name.removesuffix(_STATISTICS[0])
        for name in before.keys() - after.keys()
        if name.endswith(f".{_STATISTICS[0]}")
    }

    def count(*leaves: str) -> int:
        return sum(before.get(layer + leaf, 0) for layer in folded for leaf in leaves)

    new_biases = sum(after[name] for name in after.keys() - before.keys() if name.endswith(".bias"))
    return FoldedBatchNorm(count("weight", "bias") - new_biases, count(*_STATISTICS))
