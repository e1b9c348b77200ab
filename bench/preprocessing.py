"""Where the time of a picture goes before inference, and what is saved of it.

Each line is the fastest of many runs on one thread, in microseconds; those that belong together
alternate in one run. `plain` is what a user would write with Pillow and numpy: open, convert,
resize, crop, normalise, transpose.

    python bench/preprocessing.py
"""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

from convlens.analysis.card import Preprocessing
from convlens.server.picture import decode, normalise, to_input, to_pixels
from convlens.server.resizing import resize_and_crop

IMAGENET = Preprocessing.from_json(
    {
        "color": "RGB",
        "resize": 256,
        "crop": [224, 224],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
)
SIZES = ((500, 375), (500, 333), (375, 500), (500, 500), (3000, 2000))
MAX_PIXELS = 64_000_000
SECONDS_A_SIZE = 8.0
RESULTS = Path(__file__).parent / "results" / "preprocessing.json"


def main() -> None:
    """Measure, print and write the table."""
    rows = [measure(width, height) for width, height in SIZES]
    names = list(rows[0])
    print("  ".join(f"{name:>11}" for name in names))
    for row in rows:
        print("  ".join(f"{row[name]:>11}" for name in names))
    RESULTS.parent.mkdir(exist_ok=True)
    result = {"command": "python bench/preprocessing.py", "unit": "microseconds", "rows": rows}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def measure(width: int, height: int) -> dict[str, Any]:
    """The stages of one size; approximate_off: the mean difference of a pixel, of 255."""
    jpeg = io.BytesIO()
    Image.fromarray(data.coffee()).resize((width, height)).save(jpeg, "JPEG", quality=90)
    picture = jpeg.getvalue()
    decoded = decode(picture, "RGB", MAX_PIXELS)
    pixels = to_pixels(picture, IMAGENET, MAX_PIXELS)
    np.testing.assert_allclose(plain(picture), to_input(picture, IMAGENET, MAX_PIXELS), atol=2e-6)
    best = fastest(
        {
            "plain": lambda: plain(picture),
            "ours": lambda: to_input(picture, IMAGENET, MAX_PIXELS),
            "approximate": lambda: to_input(picture, IMAGENET, MAX_PIXELS, approximate=True),
            "decode": lambda: decode(picture, "RGB", MAX_PIXELS),
            "resize_crop": lambda: resize_and_crop(decoded, IMAGENET),
            "normalise": lambda: normalise(pixels, IMAGENET),
        }
    )
    microseconds = {name: round(1e6 * seconds) for name, seconds in best.items()}
    roughly = to_pixels(picture, IMAGENET, MAX_PIXELS, approximate=True).astype(float)
    return {
        "size": f"{width}x{height}",
        **microseconds,
        "ours/plain": round(best["ours"] / best["plain"], 2),
        "approximate_off": round(float(np.abs(roughly - pixels).mean()), 3),
    }


def plain(picture: bytes) -> Any:
    """The same with plain Pillow and numpy."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    scale = 256 / min(image.size)
    width, height = (max(256, int(length * scale)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    values = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    mean, std = (np.asarray(each, np.float32) for each in (IMAGENET.mean, IMAGENET.std))
    values = (values - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def fastest(stages: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The fastest run of each, in seconds; they take turns."""
    best = dict.fromkeys(stages, float("inf"))
    end = time.perf_counter() + SECONDS_A_SIZE
    while time.perf_counter() < end:
        for name, run in stages.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
