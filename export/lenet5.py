"""LeNet-5 in its usual modern form: ReLU, max pooling, and C3 connected to every map of S2."""

from torch import Tensor, nn
from torch.nn.functional import relu


class LeNet5(nn.Module):
    """Ten logits from one 32x32 picture in grey; 61,706 parameters.

    The layers carry the names of LeCun et al., "Gradient-Based Learning Applied to Document
    Recognition" (1998), where C5 is a convolution too: it sees the whole of its 5x5 input.
    """

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, kernel_size=5)
        self.s2 = nn.MaxPool2d(2)
        self.c3 = nn.Conv2d(6, 16, kernel_size=5)
        self.s4 = nn.MaxPool2d(2)
        self.c5 = nn.Conv2d(16, 120, kernel_size=5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        """Classify (batch, 1, 32, 32) pictures: (batch, 10) logits."""
        maps = self.s2(relu(self.c1(pictures)))
        maps = self.s4(relu(self.c3(maps)))
        features = relu(self.c5(maps)).flatten(1)
        logits: Tensor = self.output(relu(self.f6(features)))
        return logits
