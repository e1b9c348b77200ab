"""Resize: which inputs an enlarged or reduced map reads.

Source: ONNX operator specification, Resize and Upsample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, isfinite

from convlens.analysis.reach import MAX_PERIOD, Reach
from convlens.analysis.shape import Dim

# Scales are stored as float32: two thirds is meant by 0.6666667.
_LARGEST_DENOMINATOR = 4096
_HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Resampling:
    """How a Resize finds what an output reads, the same along every axis.

    Attributes:
        mode: nearest, linear or cubic.
        coordinates: how an output's coordinate becomes one of the input, as half_pixel.
        rounding: of mode nearest, as round_prefer_floor.
        antialias: whether a reduction weighs all the inputs under an output.
        exclude_outside: whether taps outside the input have no weight.
    """

    mode: str
    coordinates: str
    rounding: str
    antialias: bool = False
    exclude_outside: bool = False

    def reach(self, length: Dim, output: Dim, scale: float | None) -> Reach | None:
        """What the outputs read along one axis.

        Args:
            length: of the input.
            output: its length.
            scale: output / length where the file states it; None where it follows from the two.

        Returns:
            None where that depends on a length that is not known, or on the values of the input,
            and where it repeats only after more outputs than any map has.
        """
        line = self._line(length, output, _fraction(scale, length, output))
        if line is None or line[0] < 0 or line[0].denominator > MAX_PERIOD:
            return None
        rate, offset = line
        coordinates = (rate * i + offset for i in range(rate.denominator))
        taps = tuple(self._taps(x, rate) for x in coordinates)
        return Reach(taps, rate.numerator, "nothing" if self._drops_outside(rate) else "edge")

    def _line(
        self, length: Dim, output: Dim, scale: Fraction | None
    ) -> tuple[Fraction, Fraction] | None:
        """The numbers a and b of a * i + b, the input's coordinate of output i."""
        known = isinstance(length, int) and isinstance(output, int)
        if self.coordinates == "align_corners":
            if not isinstance(length, int) or not isinstance(output, int):
                return None
            return (Fraction(length - 1, output - 1) if output > 1 else Fraction(0)), Fraction(0)
        if scale is None or scale <= 0:
            return None
        rate = 1 / scale
        match self.coordinates:
            case "asymmetric":
                return rate, Fraction(0)
            case "tf_half_pixel_for_nn":
                return rate, rate / 2
            case "pytorch_half_pixel" if output == 1:
                return rate, Fraction(0)
            case "half_pixel" | "pytorch_half_pixel":
                return rate, rate / 2 - _HALF
            case "half_pixel_symmetric" if known:
                assert isinstance(length, int)
                assert isinstance(output, int)
                adjusted = Fraction(length, 2) * (1 - output / (scale * length))
                return rate, adjusted + rate / 2 - _HALF
        return None

    def _drops_outside(self, rate: Fraction) -> bool:
        return self.exclude_outside or (self.antialias and rate > 1)

    def _taps(self, x: Fraction, rate: Fraction) -> Sequence[int]:
        """The inputs with a weight in an output whose coordinate is x."""
        if self.mode == "nearest":
            return (_round(x, self.rounding),)
        radius = Fraction(2 if self.mode == "cubic" else 1)
        if self.antialias and rate > 1:
            radius *= rate
        elif x == floor(x):
            return (floor(x),)
        return range(floor(x - radius) + 1, ceil(x + radius))


def _round(x: Fraction, rounding: str) -> int:
    match rounding:
        case "floor":
            return floor(x)
        case "ceil":
            return ceil(x)
        case "round_prefer_ceil":
            return floor(x + _HALF)
    return ceil(x - _HALF)


def _fraction(scale: float | None, length: Dim, output: Dim) -> Fraction | None:
    if scale is not None:
        return Fraction(scale).limit_denominator(_LARGEST_DENOMINATOR) if isfinite(scale) else None
    if isinstance(length, int) and isinstance(output, int) and length > 0:
        return Fraction(output, length)
    return None
