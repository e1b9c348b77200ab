"""A picture may be a PIL image or an array, and is answered as its file is."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convlens.client import Client, PictureError
from convlens.client.pictures import picture_bytes
from tests.support import DIGITS, RunningServer, encode


def _decoded(picture: Any) -> "np.ndarray[Any, Any]":
    return np.asarray(Image.open(io.BytesIO(picture_bytes(picture))))


def test_images_and_arrays_are_answered_as_their_file_is(lenet5_server: RunningServer) -> None:
    with Client(lenet5_server.address) as client:
        for path in DIGITS[:4]:
            image = Image.open(path)
            expected = client.classify(path).predictions
            assert client.classify(image).predictions == expected
            assert client.classify(np.asarray(image)).predictions == expected
            assert client.classify(bytearray(path.read_bytes())).predictions == expected


def test_an_image_is_turned_as_its_exif_says(lenet5_server: RunningServer) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = encode(Image.open(DIGITS[0]).rotate(90), "JPEG", exif=exif, quality=95)
    with Client(lenet5_server.address) as client:
        from_bytes, from_image = (
            client.classify(picture) for picture in (turned, Image.open(io.BytesIO(turned)))
        )
    assert from_image.predictions == from_bytes.predictions
    assert from_bytes.label == DIGITS[0].name[0]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_an_array_arrives_as_it_is(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(_decoded(pixels), pixels)
    np.testing.assert_array_equal(_decoded(pixels[::-1, ::2]), pixels[::-1, ::2])


def test_an_image_in_a_mode_that_png_lacks_arrives_as_rgb() -> None:
    image = Image.effect_noise((9, 9), 80).convert("CMYK")
    np.testing.assert_array_equal(_decoded(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros((4, 4), np.float32), "float32"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\)"),
        (7, "not int"),
        ("a\0b", "cannot be read"),
        (bytes(32 * 2**20 + 1), "larger than the 33,554,432 bytes that can be sent"),
        (np.random.default_rng(0).integers(0, 256, (3400, 3400, 3), np.uint8), "larger than"),
    ],
)
def test_what_is_no_picture_is_said(value: Any, said: str) -> None:
    with pytest.raises(PictureError, match=said):
        picture_bytes(value)
