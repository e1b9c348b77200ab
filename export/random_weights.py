"""Random weights with which a network still tells pictures apart.

A deep network as PyTorch initialises it collapses: its activations shrink towards zero or explode,
and every picture gets the same answer, so that no check would notice two answers swapped. Here
each layer is scaled by what arrives at it from a batch of seeded pictures (data-dependent
initialisation: Krähenbühl et al., 2015, https://arxiv.org/abs/1511.06856).
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm

_PICTURES = 16
_SMALLEST_DEVIATION = 1e-6


@torch.no_grad()
def scale_to_pictures(network: nn.Module, input_shape: tuple[int, int, int], seed: int) -> None:
    """Rescale a freshly initialised network in place, so that activations keep a sane scale.

    Every convolution and linear layer comes to output values of unit deviation (and zero mean,
    where it has a bias) a channel; every BatchNorm gets the statistics of what it sees, and a
    random scale and bias: layers that are alike would be stored as one in an ONNX file.

    Args:
        network: in evaluation mode.
        input_shape: (channels, height, width) of one picture.
        seed: of the pictures and of BatchNorm's parameters.
    """
    generator = torch.Generator().manual_seed(seed)
    handles = []
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            fit = partial(_fit_batch_norm, generator)
            handles.append(layer.register_forward_pre_hook(fit))
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            handles.append(layer.register_forward_hook(_normalise_outputs))
    try:
        network(_pictures(input_shape, generator))
    finally:
        for handle in handles:
            handle.remove()


def _fit_batch_norm(generator: torch.Generator, layer: _BatchNorm, inputs: tuple[Tensor]) -> None:
    (maps,) = inputs
    assert layer.running_mean is not None
    assert layer.running_var is not None
    variance, mean = torch.var_mean(maps, dim=(0, 2, 3))
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
    layer.weight.uniform_(0.5, 1.5, generator=generator)
    layer.bias.normal_(std=0.2, generator=generator)


def _normalise_outputs(
    layer: nn.Conv2d | nn.Linear, _inputs: tuple[Tensor], outputs: Tensor
) -> Tensor:
    channel_axis = 1 if isinstance(layer, nn.Conv2d) else outputs.ndim - 1
    others = [axis for axis in range(outputs.ndim) if axis != channel_axis]
    deviation, mean = torch.std_mean(outputs, dim=others, keepdim=True)
    deviation.clamp_(min=_SMALLEST_DEVIATION)
    layer.weight.div_(deviation.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is None:
        return outputs / deviation
    layer.bias.sub_(mean.flatten()).div_(deviation.flatten())
    return (outputs - mean) / deviation


def _pictures(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Seeded pictures that range from soft clouds to pure noise, as inputs in use do.

    Each adds up noise of every octave, like a photograph's spectrum, in shares of its own; the
    squares make some octaves stand out.
    """
    channels, height, width = shape
    octaves = [(cells, cells) for cells in _powers_of_two(min(height, width))]
    pictures = torch.zeros(_PICTURES, channels, height, width)
    for size in (*octaves, (height, width)):
        shares = torch.rand(_PICTURES, 1, 1, 1, generator=generator).square()
        noise = torch.randn(_PICTURES, channels, *size, generator=generator)
        pictures += shares * interpolate(noise, size=(height, width), mode="bilinear")
    return pictures / pictures.std()


def _powers_of_two(limit: int) -> list[int]:
    return [2**exponent for exponent in range((limit - 1).bit_length())]
