"""Servers and photographs that many tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from skimage import data as skimage_data
from sklearn.datasets import load_sample_image

from tests.support import RunningServer, running_server, save_brightness_model, save_slow_model


@pytest.fixture(autouse=True, scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own: the user's is not filled, and what is in it does not matter."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def lenet5_server() -> Iterator[RunningServer]:
    """A server with the bundled model."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that is busy with each picture for a fifth of a second, one at a time."""
    models = tmp_path_factory.mktemp("slow-models")
    save_slow_model(models / "slow.onnx", seconds=0.2)
    one_at_a_time = ("--threads", "1", "--max-batch-size", "1")
    with running_server("--models", str(models), "--queue-size", "4", *one_at_a_time) as server:
        yield server


@pytest.fixture(scope="session")
def two_model_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with two models, one of them in two versions, and a broken one beside them."""
    models = tmp_path_factory.mktemp("models")
    save_brightness_model(models / "brightness.onnx")
    for version in ("2", "10"):
        folder = models / "versions" / version
        folder.mkdir(parents=True)
        save_brightness_model(folder / "model.onnx", weights={"origin": "random", "seed": 0})
    (models / "broken.onnx").write_bytes(b"\x08\x08not a model")
    with running_server("--models", str(models)) as server:
        yield server


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real photographs by name, as the libraries bundle them."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photographs")
    left, _, _ = skimage_data.stereo_motorcycle()
    arrays = {
        "chelsea": skimage_data.chelsea(),
        "rocket": skimage_data.rocket(),
        "motorcycle": left,
        "coffee": skimage_data.coffee(),
        "astronaut": skimage_data.astronaut(),
        "china": load_sample_image("china.jpg"),
        "flower": load_sample_image("flower.jpg"),
    }
    paths = {}
    for name, array in arrays.items():
        paths[name] = folder / f"{name}.png"
        Image.fromarray(array).save(paths[name])
    return paths
