"""What every server is given: the same ONNX files and the same picture.

python bench/peers/material.py NAME...      # write the files and tune for them, anew
"""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

RESULTS = Path(__file__).parents[1] / "results"
BUNDLED = Path(__file__).parents[2] / "server" / "bundled" / "models"
TENSOR_MODELS = ("lenet5",)
# Those that tuning is given an int8 file of, too; writing one takes minutes.
INT8_MODELS = ("resnet50",)
PIECES = 24


def model_file(name: str) -> Path:
    """The model's file, alone in its folder; exported with random weights where it is missing."""
    path = RESULTS / "models" / name / f"{name}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        bundled = BUNDLED / path.name
        if bundled.exists():
            path.write_bytes(bundled.read_bytes())
        else:
            convlens("export", name, "--weights", "random", "-o", str(path))
    return path


def tune(path: Path, anew: bool) -> None:
    """Let `convlens tune` write its findings beside the file, where they are missing."""
    if not anew and path.with_suffix(".tuned.json").exists():
        return
    print(f"{path.stem}: tuning for this machine", file=sys.stderr)
    words = ["--pictures", str(_pieces())] if path.stem not in TENSOR_MODELS else []
    if path.stem in INT8_MODELS:
        words += ["--also", str(_int8_file(path.stem)), "--budget", "180s"]
    convlens("tune", str(path), *words)


def _int8_file(name: str) -> Path:
    """The network in int8, whatever its agreement: tuning decides whether it counts."""
    path = RESULTS / "int8" / f"{name}_int8.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        words = ("--weights", "random", "--precision", "int8", "--min-agreement", "0")
        convlens("export", name, *words, "-o", str(path))
    return path


def _pieces() -> Path:
    """Pieces of photographs that int8 was not calibrated on."""
    folder = RESULTS / "pieces"
    folder.mkdir(parents=True, exist_ok=True)
    choose = np.random.default_rng(0)
    photographs = (data.astronaut(), data.chelsea(), data.stereo_motorcycle()[0])
    for number in range(PIECES):
        picture = Image.fromarray(photographs[number % len(photographs)])
        width, height = (int(side * choose.uniform(0.6, 1.0)) for side in picture.size)
        left = int(choose.integers(picture.width - width))
        top = int(choose.integers(picture.height - height))
        piece = picture.crop((left, top, left + width, top + height))
        piece.save(folder / f"{number:02}.jpg", quality=88)
    return folder


def convlens(*words: str) -> None:
    """Run one of our commands."""
    subprocess.run([sys.executable, "-m", "convlens.cli", *words], check=True, stdout=sys.stderr)


def jpeg() -> bytes:
    """scikit-image's cup of coffee, 500 x 375, 51 kB."""
    file = io.BytesIO()
    Image.fromarray(data.coffee()).resize((500, 375)).save(file, "JPEG", quality=88)
    return file.getvalue()


def tensor() -> np.ndarray:
    """A seeded input of LeNet-5, float32 (1, 1, 32, 32)."""
    return np.random.default_rng(0).standard_normal((1, 1, 32, 32), np.float32)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        tune(model_file(argument), anew=True)
