"""What an exported file no longer shows: the BatchNorm layers folded into convolutions."""

from dataclasses import dataclass

import onnx
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class FoldedBatchNorm:
    """How many more numbers the network has than its file stores.

    Attributes:
        learnable: scales and biases folded away, less the biases that folding gave convolutions:
            added to what the file stores, it makes the network's own count.
        statistics: running means and variances folded away.
    """

    learnable: int
    statistics: int


def folded_batch_norm(network: nn.Module, model: onnx.ModelProto) -> FoldedBatchNorm:
    """Compare a network with the file made of it, whose initializers keep their names."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    own = dict(network.named_parameters())
    channels = sum(
        layer.num_features
        for name, layer in network.named_modules()
        if isinstance(layer, _BatchNorm) and f"{name}.weight" not in stored
    )
    new_biases = sum(
        tensor.dims[0]
        for name, tensor in stored.items()
        if name.endswith(".bias") and name not in own
    )
    return FoldedBatchNorm(learnable=2 * channels - new_biases, statistics=2 * channels)
