"""Random weights with which a network still tells pictures apart.

A deep network as PyTorch initialises it collapses: its activations shrink towards zero or explode,
and every picture gets the same answer, so that no check would notice two answers swapped. Here
each layer is scaled by what arrives at it from a batch of seeded pictures (data-dependent
initialisation: Krähenbühl et al., 2015, https://arxiv.org/abs/1511.06856).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from convlens.export.photographs import photograph_input

_PICTURES = 16
_SMALLEST_DEVIATION = 1e-6
# A channel that hardly varies is amplified no further than to these shares of its own mean square
# and of its layer's deviation: what would come out is rounding errors.
_LEAST_OF_MEAN_SQUARE = 0.1
_LEAST_OF_LAYER = 0.3
# BatchNorm's outputs lie where SiLU is almost straight. Around zero it halves what is small and
# keeps what is large: over fifty layers, a loud picture would drown all others.
_NORM_SCALE = (0.5, 1.0)
_NORM_BIAS = 0.5
_BIAS_DEVIATION = 0.2


@torch.no_grad()
def scale_to_pictures(network: nn.Module, input_shape: tuple[int, int, int], seed: int) -> None:
    """Rescale a freshly initialised network in place, so that activations keep a sane scale.

    Every convolution and linear layer comes to output values of unit deviation (and zero mean,
    where it has a bias) a channel; every BatchNorm gets the statistics of what it sees. What a
    network starts with as a constant (the scales and biases of normalisation, ConvNeXt's layer
    scale of 1e-6, which would keep every block silent) becomes random.

    Args:
        network: in evaluation mode.
        input_shape: (channels, height, width) of one picture.
        seed: of the pictures and of what was constant.
    """
    generator = torch.Generator().manual_seed(seed)
    _vary_constants(network, generator)
    handles = []
    for layer in network.modules():
        if isinstance(layer, _BatchNorm) and layer.track_running_stats:
            handles.append(layer.register_forward_pre_hook(_fit_statistics))
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            handles.append(layer.register_forward_hook(_normalise_outputs))
    try:
        network(_pictures(input_shape, generator))
    finally:
        for handle in handles:
            handle.remove()


def _vary_constants(network: nn.Module, generator: torch.Generator) -> None:
    for layer in network.modules():
        is_norm = isinstance(layer, _BatchNorm)
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.numel() < 2 or parameter.min() != parameter.max():
                continue
            if name.endswith("bias"):
                mean = _NORM_BIAS if is_norm else 0.0
                parameter.normal_(mean, _BIAS_DEVIATION, generator=generator)
            else:
                low, high = _NORM_SCALE if is_norm else (0.5, 1.5)
                parameter.uniform_(low, high, generator=generator)


def _fit_statistics(layer: _BatchNorm, inputs: tuple[Tensor]) -> None:
    (maps,) = inputs
    assert layer.running_mean is not None
    assert layer.running_var is not None
    deviation, mean = _spread(maps, channel_axis=1)
    layer.running_mean.copy_(mean.flatten())
    layer.running_var.copy_(deviation.flatten().square())


def _normalise_outputs(
    layer: nn.Conv2d | nn.Linear, _inputs: tuple[Tensor], outputs: Tensor
) -> Tensor:
    channel_axis = 1 if isinstance(layer, nn.Conv2d) else outputs.ndim - 1
    deviation, mean = _spread(outputs, channel_axis)
    if isinstance(layer, nn.Conv2d) and outputs.shape[2:] == (1, 1):
        # A gate, fed with one mean a channel: less its own mean, little but errors would be left.
        deviation = torch.hypot(deviation, mean)
        mean = torch.zeros_like(mean)
    layer.weight.div_(deviation.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    if layer.bias is None:
        return outputs / deviation
    layer.bias.sub_(mean.flatten()).div_(deviation.flatten())
    return (outputs - mean) / deviation


def _spread(values: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """The deviation and the mean a channel, the former at least what can be told from nothing."""
    others = [axis for axis in range(values.ndim) if axis != channel_axis]
    deviation, mean = torch.std_mean(values, dim=others, keepdim=True)
    deviation = torch.maximum(deviation, _LEAST_OF_MEAN_SQUARE * torch.hypot(deviation, mean))
    of_layer = deviation.square().mean().sqrt()
    least = torch.clamp(_LEAST_OF_LAYER * of_layer, min=_SMALLEST_DEVIATION)
    return torch.maximum(deviation, least), mean


def _pictures(shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Half pieces of photographs, half seeded noise: what inputs in use look like, and beyond."""
    half = _PICTURES // 2
    seed = int(torch.randint(2**31, (), generator=generator))
    return torch.cat(
        [torch.from_numpy(photograph_input(half, shape, seed)), _clouds(half, shape, generator)]
    )


def _clouds(count: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Seeded pictures that range from soft clouds to pure noise.

    Each adds up noise of every octave, like a photograph's spectrum, in shares of its own; the
    squares make some octaves stand out. The last is noise alone.
    """
    channels, height, width = shape
    octaves = [(cells, cells) for cells in _powers_of_two(min(height, width))]
    pictures = torch.zeros(count, channels, height, width)
    for size in (*octaves, (height, width)):
        shares = torch.rand(count, 1, 1, 1, generator=generator).square()
        noise = torch.randn(count, channels, *size, generator=generator)
        pictures += shares * interpolate(noise, size=(height, width), mode="bilinear")
    pictures[-1] = torch.randn(shape, generator=generator)
    return pictures / pictures.std(dim=(1, 2, 3), keepdim=True)


def _powers_of_two(limit: int) -> list[int]:
    return [2**exponent for exponent in range((limit - 1).bit_length())]
