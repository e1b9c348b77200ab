"""Preprocessing equals torchvision's transforms on PIL images, and odd pictures are read right."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from convlens.analysis.card import Interpolation, Preprocessing
from convlens.server.errors import InvalidPictureError
from convlens.server.picture import decode, to_input, to_pixels
from convlens.server.resizing import resize_and_crop
from tests.support import encode

IMAGENET = Preprocessing.from_json(
    {
        "color": "RGB",
        "resize": 256,
        "interpolation": "bilinear",
        "antialias": True,
        "crop": [224, 224],
        "scale": 1 / 255,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "layout": "NCHW",
    }
)
MAX_PIXELS = 64_000_000


def _torchvision(picture: Image.Image) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    transform = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET.mean, IMAGENET.std),
        ]
    )
    tensor: torch.Tensor = transform(picture)
    array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = tensor.numpy()
    return array


def test_photographs_are_prepared_as_torchvision_does_it(photographs: dict[str, Path]) -> None:
    for name, path in photographs.items():
        ours = to_input(path.read_bytes(), IMAGENET, MAX_PIXELS)
        theirs = _torchvision(Image.open(path).convert("RGB"))
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("size", [(300, 200), (200, 301), (255, 257), (31, 500), (224, 224)])
def test_odd_sizes_are_prepared_as_torchvision_does_it(size: tuple[int, int]) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    picture = Image.fromarray(noise)
    ours = to_input(encode(picture, "PNG"), IMAGENET, MAX_PIXELS)
    np.testing.assert_allclose(ours, _torchvision(picture), atol=2e-6)


def test_a_crop_larger_than_the_picture_gets_torchvisions_border() -> None:
    small = replace(IMAGENET, resize=100, crop=(131, 224))
    noise = np.random.RandomState(0).randint(0, 256, (101, 143, 3)).astype(np.uint8)
    picture = Image.fromarray(noise)
    transform = transforms.Compose(
        [
            transforms.Resize(100, transforms.InterpolationMode.BILINEAR),
            transforms.CenterCrop((131, 224)),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET.mean, IMAGENET.std),
        ]
    )
    ours = to_input(encode(picture, "PNG"), small, MAX_PIXELS)
    np.testing.assert_allclose(ours, transform(picture).numpy(), atol=2e-6)


SIZES = [
    (500, 375),
    (800, 600),
    (500, 333),
    (333, 500),
    (512, 512),
    (640, 427),
    (97, 200),
    (500, 1300),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("resize", "crop", "interpolation"),
    [
        (256, 224, "bilinear"),
        (232, 224, "bilinear"),
        (256, 224, "bicubic"),
        (40, 32, "lanczos"),
        (288, 288, "box"),
        (256, 224, "hamming"),
    ],
)
def test_what_the_crop_drops_is_left_out_without_changing_a_pixel(
    size: tuple[int, int], resize: int, crop: int, interpolation: Interpolation
) -> None:
    how = replace(IMAGENET, resize=resize, crop=(crop, crop), interpolation=interpolation)
    noise = np.random.RandomState(0).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    picture = Image.fromarray(noise)
    transform = transforms.Compose(
        [
            transforms.Resize(resize, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(crop),
        ]
    )
    np.testing.assert_array_equal(resize_and_crop(picture, how), transform(picture))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "hamming"])
def test_the_approximate_mode_is_off_by_a_rounding(
    interpolation: Interpolation, photographs: dict[str, Path]
) -> None:
    how = replace(IMAGENET, interpolation=interpolation)
    for name, path in photographs.items():
        data = path.read_bytes()
        if data.startswith(b"\xff\xd8"):
            continue  # a JPEG may be decoded at a fraction of its size
        exact = to_pixels(data, how, MAX_PIXELS).astype(int)
        approximate = to_pixels(data, how, MAX_PIXELS, approximate=True).astype(int)
        difference = np.abs(approximate - exact)
        assert difference.max() <= 2, name
        assert difference.mean() < 0.01, name


def test_the_approximate_mode_decodes_large_jpegs_at_a_fraction_of_their_size(
    photographs: dict[str, Path],
) -> None:
    picture = Image.open(photographs["coffee"]).convert("RGB").resize((1800, 1200))
    data = encode(picture, "JPEG", quality=90)
    exact = to_pixels(data, IMAGENET, MAX_PIXELS).astype(int)
    approximate = to_pixels(data, IMAGENET, MAX_PIXELS, approximate=True).astype(int)
    assert approximate.shape == exact.shape
    assert 0 < np.abs(approximate - exact).mean() < 1.0
    assert np.abs(approximate - exact).max() < 40


def test_layout_nhwc_moves_the_channels_last(photographs: dict[str, Path]) -> None:
    data = photographs["chelsea"].read_bytes()
    last = to_input(data, replace(IMAGENET, layout="NHWC"), MAX_PIXELS)
    first = to_input(data, IMAGENET, MAX_PIXELS)
    assert last.shape == (224, 224, 3)
    np.testing.assert_array_equal(last.transpose(2, 0, 1), first)


def test_the_exif_orientation_turns_the_picture_upright() -> None:
    upright = Image.new("RGB", (40, 20), "white")
    upright.paste("red", (0, 0, 20, 20))
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    data = encode(lying, "JPEG", exif=exif, quality=95)
    decoded = decode(data, "RGB", MAX_PIXELS)
    assert decoded.size == (40, 20)
    red, white = decoded.getpixel((5, 10)), decoded.getpixel((35, 10))
    assert isinstance(red, tuple)
    assert isinstance(white, tuple)
    assert red[0] > 200 > 60 > red[1]
    assert min(white) > 240


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_promised_format_is_read(format: str) -> None:  # noqa: A002
    data = encode(Image.new("RGB", (16, 16), (200, 30, 30)), format)
    pixel = decode(data, "RGB", MAX_PIXELS).getpixel((8, 8))
    np.testing.assert_allclose(np.array(pixel), (200, 30, 30), atol=8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_colour_mode_becomes_what_pillows_convert_makes_of_it(mode: str) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    grey = Image.fromarray(noise).convert("L")
    picture = (
        grey.convert("I").convert("I;16")
        if mode == "I;16"
        else Image.fromarray(noise).convert(mode)
    )
    data = encode(picture, "TIFF" if mode == "CMYK" else "PNG")
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    assert decode(data, "RGB", MAX_PIXELS).tobytes() == expected.tobytes()


def test_a_format_that_was_not_promised_is_refused() -> None:
    data = encode(Image.new("RGB", (16, 16)), "PPM")
    with pytest.raises(InvalidPictureError, match="not a picture in one of JPEG, PNG"):
        decode(data, "RGB", MAX_PIXELS)


def test_the_pixel_limit_is_the_settings(photographs: dict[str, Path]) -> None:
    data = photographs["chelsea"].read_bytes()
    assert decode(data, "RGB", 300 * 451).size == (451, 300)
    with pytest.raises(InvalidPictureError, match="451 x 300 pixels; the limit is 135299"):
        decode(data, "RGB", 300 * 451 - 1)
