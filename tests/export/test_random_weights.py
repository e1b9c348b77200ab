from pathlib import Path

import numpy as np
import torch
from torch import nn

from convlens.export.random_weights import scale_to_pictures
from tests.export.support import Exported, build, photograph_input


def test_random_weights_tell_photographs_apart(
    resnet18: Exported, photographs: dict[str, Path]
) -> None:
    how = resnet18.result.card.preprocessing
    assert how is not None
    inputs = np.concatenate([photograph_input(path, how) for path in photographs.values()])
    logits = resnet18.run(inputs)
    answers = set(logits.argmax(axis=1).tolist())
    assert len(answers) >= len(photographs) - 1
    # The logits differ between photographs about as much as between classes.
    assert logits.std(axis=0).mean() > logits.std() / 2


def test_activations_keep_a_sane_scale_in_every_layer(
    resnet18: Exported, photographs: dict[str, Path]
) -> None:
    how = resnet18.result.card.preprocessing
    assert how is not None
    scales: list[float] = []
    network = build("resnet18", "random")
    for layer in network.modules():
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda _layer, _in, out: scales.append(float(out.std())))
    with torch.no_grad():
        network(torch.from_numpy(photograph_input(photographs["chelsea"], how)))
    assert len(scales) == 17
    assert min(scales) > 0.1
    assert max(scales) < 10


def test_no_two_tensors_are_alike_so_that_none_is_merged(resnet18: Exported) -> None:
    tensors = {parameter.numpy(force=True).tobytes() for parameter in resnet18.network.parameters()}
    assert len(tensors) == len(list(resnet18.network.parameters()))


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (build("lenet5", "random", seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_building_random_weights_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build("lenet5", "random")
    assert torch.equal(torch.rand(1), expected)


def test_a_batch_norm_without_statistics_is_left_to_the_batch() -> None:
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    scale_to_pictures(nn.Sequential(nn.Conv2d(3, 4, 3), norm), (3, 8, 8), seed=0)
    assert norm.running_mean is None
