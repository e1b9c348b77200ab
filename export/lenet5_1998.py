"""LeNet-5 as it was published: sparse C3, trainable subsampling, 60,000 trainable parameters.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition",
Proceedings of the IEEE 86 (1998), section II.B.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

# Table I of the paper: which maps of S2 each map of C3 sees, in groups of equally many.
_THREE = tuple(tuple((first + offset) % 6 for offset in range(3)) for first in range(6))
_FOUR = (
    *(tuple((first + offset) % 6 for offset in range(4)) for first in range(6)),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
)
_ALL = (tuple(range(6)),)

# The 7x12 drawings of characters that the output units compare F6 with (the paper's figure 3).
# The paper prints them too coarsely to copy, so the digits are drawn anew.
_GLYPHS = """
.#####.  ...##..  .#####.  .#####.  ....##.  #######  ..####.  #######  .#####.  .#####.
##...##  ..###..  ##...##  ##...##  ...###.  ##.....  .##....  ##...##  ##...##  ##...##
##...##  .####..  ##...##  .....##  ..####.  ##.....  ##.....  .....##  ##...##  ##...##
##...##  ...##..  .....##  .....##  .##.##.  ##.....  ##.....  ....##.  ##...##  ##...##
##...##  ...##..  ....##.  .....##  ##..##.  ######.  ##.....  ....##.  .##.##.  ##...##
##...##  ...##..  ...##..  ..####.  ##..##.  .....##  ######.  ...##..  ..###..  .######
##...##  ...##..  ..##...  .....##  #######  .....##  ##...##  ...##..  .##.##.  .....##
##...##  ...##..  .##....  .....##  ....##.  .....##  ##...##  ..##...  ##...##  .....##
##...##  ...##..  ##.....  .....##  ....##.  .....##  ##...##  ..##...  ##...##  .....##
##...##  ...##..  ##.....  ##...##  ....##.  ##...##  ##...##  .##....  ##...##  ....##.
##...##  ...##..  ##...##  ##...##  ....##.  ##...##  ##...##  .##....  ##...##  ...##..
.#####.  .######  #######  .#####.  ....##.  .#####.  .#####.  .##....  .#####.  .###...
"""


class LeNet5Of1998(nn.Module):
    """Ten logits from one 32x32 picture in grey, by the layers of the paper.

    The logits are the negative squared distances to the characters' drawings, so that the nearest
    class has the largest one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, kernel_size=5)
        self.s2 = Subsampling(6)
        self.c3 = SparseConvolution((_THREE, _FOUR, _ALL))
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.output = RadialBasis()

    def forward(self, pictures: Tensor) -> Tensor:
        """Classify (batch, 1, 32, 32) pictures: (batch, 10) logits."""
        maps = squash(self.s2(squash(self.c1(pictures))))
        maps = squash(self.s4(squash(self.c3(maps))))
        features = squash(self.c5(maps)).flatten(1)
        logits: Tensor = self.output(squash(self.f6(features)))
        return logits


class Subsampling(nn.Module):
    """The sum of each 2x2 square, times a coefficient and plus a bias that each map learns."""

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps, 1, 1).uniform_(0.2, 0.3))
        self.bias = nn.Parameter(torch.empty(maps, 1, 1).uniform_(-0.1, 0.1))

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, maps, height, width) in, half the height and width out."""
        # Not avg_pool2d's divisor_override, which PyTorch's exporter loses.
        sums = avg_pool2d(maps, 2) * 4
        return sums * self.coefficient + self.bias


class SparseConvolution(nn.Module):
    """A 5x5 convolution whose output maps each see some of the input maps only.

    Args:
        groups: of output maps that see equally many input maps: the input maps of each.
    """

    def __init__(self, groups: tuple[tuple[tuple[int, ...], ...], ...]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(len(group) * len(group[0]), len(group), kernel_size=5, groups=len(group))
            for group in groups
        )
        for index, group in enumerate(groups):
            seen = torch.tensor([source for sources in group for source in sources])
            self.register_buffer(f"seen{index}", seen, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, sources, height, width) in, (batch, maps, height - 4, width - 4) out."""
        return torch.cat(
            [
                convolution(maps.index_select(1, self.get_buffer(f"seen{index}")))
                for index, convolution in enumerate(self.convolutions)
            ],
            dim=1,
        )


class RadialBasis(nn.Module):
    """The negative squared distance of 84 features to each of ten fixed drawings."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("drawings", drawings(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, 84) in, (batch, 10) out."""
        differences = features.unsqueeze(1) - self.get_buffer("drawings")
        return -differences.square().sum(dim=2)


def squash(values: Tensor) -> Tensor:
    """A tanh that takes +1 to +1 and -1 to -1 (the paper's appendix A)."""
    return 1.7159 * torch.tanh(values * (2 / 3))


def drawings() -> Tensor:
    """(10, 84) values: +1 where the digit has ink, else -1, row by row."""
    rows = [line.split() for line in _GLYPHS.strip().splitlines()]
    glyphs = ["".join(row[digit] for row in rows) for digit in range(10)]
    return torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in glyph] for glyph in glyphs])
