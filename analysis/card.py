"""The model card: what a self-describing ONNX file says of itself.

It lives in the file's ``metadata_props``, one JSON value a key, each key prefixed ``convlens.``.
A file without a card is any ONNX file: every part of the card may be missing.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from convlens.analysis.card_values import (
    Json,
    read_channels,
    read_choice,
    read_integer,
    read_labels,
    read_model,
    read_number,
    read_object,
    read_resize,
    read_rows,
    read_shape,
    read_size,
    read_weights,
)
from convlens.analysis.errors import CardError

if TYPE_CHECKING:
    import numpy as np

PREFIX = "convlens."

MAX_SEED = 2**32 - 1  # numpy's
GOLDEN_VALUES = 2**24  # a hundred pictures of 224 x 224; making so many takes most of a second

Color = Literal["RGB", "L"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Layout = Literal["NCHW", "NHWC"]

T = TypeVar("T")


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded picture becomes the model's input: value = (pixel * scale - mean) / std.

    Attributes:
        color: what the picture is converted to, as Pillow's ``Image.convert`` does it.
        resize: the length of the shorter side, or (height, width).
        interpolation: Pillow's resampling filter.
        antialias: whether the filter widens when it scales down (Pillow's always does).
        crop: (height, width) cut from the centre after resizing; None keeps the whole picture.
        scale: multiplies the 8-bit pixel value.
        mean: one value a channel, in units of the scaled pixel.
        std: one value a channel, in units of the scaled pixel.
        layout: the order of the input tensor's axes.
    """

    color: Color
    resize: int | tuple[int, int]
    interpolation: Interpolation
    antialias: bool
    crop: tuple[int, int] | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Layout

    @property
    def channels(self) -> int:
        """The number of channels of the input tensor."""
        return len(self.mean)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input tensor."""
        if self.crop is not None:
            return self.crop
        assert isinstance(self.resize, tuple)  # from_json refuses a shorter side without a crop
        return self.resize

    @property
    def keeps_pixels(self) -> bool:
        """Whether the values are the pixels themselves: the graph normalises them."""
        return self.scale == 1.0 and set(self.mean) == {0.0} and set(self.std) == {1.0}

    @classmethod
    def from_json(cls, value: Any) -> "Preprocessing":
        """Read the value of ``convlens.preprocessing``.

        Raises:
            CardError: a field is missing or has a value that cannot be used.
        """
        fields = read_object("preprocessing", value)
        color = read_choice("preprocessing.color", fields.get("color"), get_args(Color))
        resize = read_resize(fields.get("resize"))
        crop = (
            None if fields.get("crop") is None else read_size("preprocessing.crop", fields["crop"])
        )
        if crop is None and not isinstance(resize, tuple):
            raise CardError(
                "preprocessing.crop: is needed where resize gives the shorter side only"
            )
        channels = 3 if color == "RGB" else 1
        std = read_channels("preprocessing.std", fields.get("std"), channels)
        if 0.0 in std:
            raise CardError("preprocessing.std: must not be zero")
        return cls(
            color=color,
            resize=resize,
            interpolation=read_choice(
                "preprocessing.interpolation",
                fields.get("interpolation", "bilinear"),
                get_args(Interpolation),
            ),
            antialias=read_choice(
                "preprocessing.antialias", fields.get("antialias", True), (True, False)
            ),
            crop=crop,
            scale=read_number("preprocessing.scale", fields.get("scale", 1 / 255)),
            mean=read_channels("preprocessing.mean", fields.get("mean"), channels),
            std=std,
            layout=read_choice(
                "preprocessing.layout", fields.get("layout", "NCHW"), get_args(Layout)
            ),
        )


@dataclass(frozen=True)
class Golden:
    """A seeded input and the output that PyTorch gave for it.

    Attributes:
        seed: of ``numpy.random.RandomState``, whose stream is frozen across numpy's releases.
        shape: of the input, the batch included; its values are standard normal, float32.
        outputs: PyTorch's output, one row a batch entry.
        tolerance: the largest difference allowed, relative to the outputs' spread (max - min).
    """

    seed: int
    shape: tuple[int, ...]
    outputs: tuple[tuple[float, ...], ...]
    tolerance: float

    def input(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """The input that the outputs belong to."""
        return golden_input(self.seed, self.shape)

    def deviation(self, outputs: "np.ndarray[Any, Any]") -> float:
        """How far `outputs` are from the expected ones, relative to their spread.

        Returns:
            max|outputs - expected| / (max(expected) - min(expected)); infinite where the shapes
            differ or a value is not a number.
        """
        import numpy as np

        return relative_deviation(outputs, np.asarray(self.outputs))

    @classmethod
    def from_json(cls, value: Any) -> "Golden":
        """Read the value of ``convlens.golden``.

        Raises:
            CardError: a field is missing or has a value that cannot be used.
        """
        fields = read_object("golden", value)
        return cls(
            seed=read_integer("golden.seed", fields.get("seed"), minimum=0, maximum=MAX_SEED),
            shape=read_shape("golden.shape", fields.get("shape"), most=GOLDEN_VALUES),
            outputs=read_rows("golden.outputs", fields.get("outputs")),
            tolerance=read_number("golden.tolerance", fields.get("tolerance")),
        )


def golden_input(seed: int, shape: tuple[int, ...]) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Standard normal values, the same on every machine and numpy release."""
    import numpy as np

    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def relative_deviation(actual: "np.ndarray[Any, Any]", expected: "np.ndarray[Any, Any]") -> float:
    """The largest difference, relative to the spread (max - min) of what was expected.

    Freshly initialised networks can output values around 1e-14: an absolute tolerance would accept
    anything from them.

    Returns:
        Infinity where the shapes differ, a value is not finite, or constant outputs differ.
    """
    import numpy as np

    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return math.inf
    difference = float(np.max(np.abs(actual.astype(np.float64) - expected), initial=0.0))
    if difference == 0.0:
        return 0.0
    spread = float(np.ptp(expected))
    return difference / spread if spread > 0.0 else math.inf


@dataclass(frozen=True)
class ModelCard:
    """All that a file says of itself; see the module's text.

    Attributes:
        preprocessing: how a picture becomes the input.
        labels: the classes' names, by index.
        weights: where they came from: origin, seed, dataset, accuracy, source.
        model: name, family, input_size, precision, softmax.
        parity: the largest differences from PyTorch that the export measured.
        golden: a seeded input and the output expected of it.
        export: the versions of what wrote the file; opset; time.
    """

    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] | None = None
    weights: Json = field(default_factory=dict)
    model: Json = field(default_factory=dict)
    parity: Json = field(default_factory=dict)
    golden: Golden | None = None
    export: Json = field(default_factory=dict)

    @property
    def weights_origin(self) -> str:
        """Where the weights came from: "random", "trained", ...; empty where not stated."""
        return str(self.weights.get("origin", ""))

    @property
    def softmax(self) -> bool:
        """Whether the model's output is probabilities already."""
        softmax: bool = self.model.get("softmax", False)
        return softmax

    @property
    def precision(self) -> str:
        """The number format of the weights; fp32 where the file is silent."""
        return str(self.model.get("precision", "fp32"))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ModelCard":
        """Read the card out of a file's ``metadata_props``.

        Args:
            metadata: every key of the file; those without the prefix are ignored.

        Raises:
            CardError: a key's value is not JSON or not of the card's format.
        """

        def part(name: str, read: Callable[[Any], T], default: T) -> T:
            text = metadata.get(PREFIX + name)
            if text is None:
                return default
            try:
                return read(json.loads(text))
            except ValueError as error:
                raise CardError(f"metadata {PREFIX}{name}: not JSON: {error}") from error
            except RecursionError as error:
                raise CardError(f"metadata {PREFIX}{name}: it is nested too deeply") from error
            except CardError as error:
                raise CardError(f"metadata {PREFIX}{error}") from error

        def json_object(name: str) -> Json:
            return part(name, lambda value: read_object(name, value), {})

        return cls(
            preprocessing=part("preprocessing", Preprocessing.from_json, None),
            labels=part("labels", read_labels, None),
            weights=part("weights", read_weights, {}),
            model=part("model", read_model, {}),
            parity=json_object("parity"),
            golden=part("golden", Golden.from_json, None),
            export=json_object("export"),
        )

    def to_metadata(self) -> dict[str, str]:
        """The card as ``metadata_props``, without its empty parts: undoes `from_metadata`."""
        parts: dict[str, Any] = {
            "preprocessing": self.preprocessing and asdict(self.preprocessing),
            "labels": self.labels,
            "weights": self.weights,
            "model": self.model,
            "parity": self.parity,
            "golden": self.golden and asdict(self.golden),
            "export": self.export,
        }
        return {
            PREFIX + name: json.dumps(value, ensure_ascii=False)
            for name, value in parts.items()
            if value
        }
