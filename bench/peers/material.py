"""What every server is given: the same ONNX files and the same picture."""

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
    if anew or not path.with_suffix(".tuned.json").exists():
        print(f"{path.stem}: tuning for this machine", file=sys.stderr)
        convlens("tune", str(path))


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
