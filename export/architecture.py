"""A network that can be exported, with all that its file will say of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convlens.analysis.card import Preprocessing
from convlens.export.errors import ImageSizeError

Progress = Callable[[int, int], None]  # (done, in all)

MAX_IMAGE_SIZE = 4096


@dataclass(frozen=True)
class DefaultWeights:
    """The weights that an architecture gets when no others are asked for.

    Attributes:
        summary: where they come from, in a few words.
        load: fills a freshly initialised network in place, given a seed and where to report
            progress; returns what the model card says of the weights.
        pretrained: whether they were learnt from photographs, so that another head can be trained
            on top of them.
    """

    summary: str
    load: Callable[[nn.Module, int, Progress], Mapping[str, Any]]
    pretrained: bool = False


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that are asked for by the name that their publisher gave them.

    Attributes:
        weights: how the network gets them.
        preprocessing: how a picture becomes the input of a network that has them.
    """

    weights: DefaultWeights
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Cost:
    """What one picture costs a network.

    Attributes:
        parameters: the learnable ones.
        macs: multiply-accumulates of convolutions and matrix products, biases left out.
    """

    parameters: int
    macs: int


@dataclass(frozen=True)
class Architecture:
    """A network that can be exported by name.

    Attributes:
        name: what it is asked for by.
        family: the line of networks to which it belongs.
        build: makes the network, freshly initialised from torch's global seed.
        preprocessing: how a picture becomes its input.
        labels: of its classes, by index; empty where nobody has named them.
        default_weights: where its weights come from unless the user says otherwise.
        published_cost: at its own image size, where its authors state it.
        published_weights: by their names, the default ones included.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    default_weights: DefaultWeights
    published_cost: Cost | None = None
    published_weights: Mapping[str, PublishedWeights] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture."""
        return (self.preprocessing.channels, *self.preprocessing.size)

    @property
    def cost(self) -> Cost:
        """As published, or else counted."""
        return self.published_cost or self.count_cost()

    def count_cost(self) -> Cost:
        """Count parameters and MACs by a run of the network that computes no values.

        The network is built as ever, and only then stripped of its values: a user's own may read
        weights from a file, or numbers out of tensors.

        Raises:
            ImageSizeError: the network cannot take pictures of this size.
        """
        with torch.random.fork_rng(devices=[]):
            network = self.build().eval().to("meta")
        picture = torch.zeros(1, *self.input_shape, device="meta")
        try:
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(picture)
        # It may be the user's code: whatever it raises is the reason.
        except Exception as error:
            height, width = self.preprocessing.size
            reason = str(error).strip().partition("\n")[0]
            raise ImageSizeError(
                f"{self.name} cannot take pictures of {height}x{width}: {reason}"
            ) from error
        return Cost(
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            macs=counter.get_total_flops() // 2,
        )

    def with_published_weights(self, name: str) -> "Architecture":
        """The same architecture with other weights as its default, and their preprocessing.

        Args:
            name: one of `published_weights`.
        """
        published = self.published_weights[name]
        return replace(
            self, default_weights=published.weights, preprocessing=published.preprocessing
        )

    def at_image_size(self, size: int) -> "Architecture":
        """The same architecture for square pictures of another size, resized in proportion.

        Args:
            size: height and width of the input, in pixels.

        Raises:
            ImageSizeError: the network cannot take pictures of this size, or they are so large
                that comparing what it makes of them takes all memory.
        """
        if size > MAX_IMAGE_SIZE:
            raise ImageSizeError(
                f"pictures of {size}x{size} are too large: {MAX_IMAGE_SIZE}x{MAX_IMAGE_SIZE} at "
                "most; with --dynamic-size the exported file takes any"
            )
        how = self.preprocessing
        # As much of the picture as before stays outside the crop.
        resize = (
            round(how.resize * size / min(how.size))
            if isinstance(how.resize, int)
            else (size, size)
        )
        crop = None if how.crop is None else (size, size)
        resized = replace(
            self,
            preprocessing=replace(how, resize=resize, crop=crop),
            published_cost=None,
        )
        resized.count_cost()
        return resized
