"""Weights in files beside a model's own belong to what a model is."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convlens.server.errors import ModelLoadError
from convlens.server.external_data import external_files
from convlens.server.plan import Machine, Plan
from convlens.server.providers import ModelSource, open_session
from tests.server.graphs import move_weights, save_graph
from tests.support import BUNDLED, save_brightness_model

ROW = (TensorProto.FLOAT, ("batch", 2))


def _named(tensor: TensorProto, location: str) -> TensorProto:
    """A tensor whose values lie in a file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _save_naming(path: Path, location: str) -> Path:
    save_graph(
        path,
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": ROW},
        {"y": ROW},
        {"w": np.ones(2, np.float32)},
    )
    model = onnx.load(path)
    _named(model.graph.initializer[0], location)
    path.write_bytes(model.SerializeToString())
    return path


def test_the_identity_is_what_sha256sum_says() -> None:
    own = hashlib.sha256(BUNDLED.read_bytes()).hexdigest()
    assert ModelSource.read(BUNDLED).sha256 == own


def test_the_identity_is_that_of_all_files(tmp_path: Path) -> None:
    path = save_brightness_model(tmp_path / "light.onnx")
    weights = move_weights(path)
    before = ModelSource.read(path)
    command = f"sha256sum {path.name} {weights.name} | cut -d' ' -f1 | sha256sum | cut -d' ' -f1"
    said = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert before.sha256 == said.stdout.strip()
    assert before.size_bytes == path.stat().st_size + weights.stat().st_size
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert ModelSource.read(path).sha256 != before.sha256


def test_weights_are_found_wherever_a_model_may_have_some(tmp_path: Path) -> None:
    def constant(location: str) -> onnx.NodeProto:
        value = _named(numpy_helper.from_array(np.ones(2, np.float32)), location)
        return helper.make_node("Constant", [], [location], value=value)

    output = helper.make_tensor_value_info("body", TensorProto.FLOAT, (2,))
    branches: dict[str, Any] = {
        name: helper.make_graph([constant(name)], name, [], [output])
        for name in ("then_branch", "else_branch")
    }
    path = save_graph(
        tmp_path / "any.onnx",
        [constant("node"), helper.make_node("If", ["x"], ["y"], **branches)],
        {"x": (TensorProto.BOOL, ())},
        {"y": ROW},
        {"stored": np.ones(2, np.float32)},
    )
    model = onnx.load(path, load_external_data=False)
    _named(model.graph.initializer[0], "stored")
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(
        helper.make_function("own", "F", [], ["function"], [constant("function")], opsets)
    )
    path.write_bytes(model.SerializeToString())
    names = ("else_branch", "function", "node", "stored", "then_branch")
    assert external_files(path) == tuple(tmp_path / name for name in names)


@pytest.mark.parametrize("location", ["nope", "pipe", "zeros", "folder", "a\0b", ""])
def test_what_is_no_file_of_weights_is_said_at_once(tmp_path: Path, location: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    path = _save_naming(tmp_path / "any.onnx", location)
    with pytest.raises(ModelLoadError, match=r"regular file|No such file|no file can|directory"):
        ModelSource.read(path)


def test_a_name_that_is_not_utf8_is_one(tmp_path: Path) -> None:
    path = _save_naming(tmp_path / "any.onnx", "cafe")
    path.write_bytes(path.read_bytes().replace(b"cafe", b"caf\xe9"))
    weights = tmp_path / os.fsdecode(b"caf\xe9")
    weights.write_bytes(bytes(8))
    assert external_files(path) == (weights,)
    assert ModelSource.read(path).weights == (weights,)


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_weights_may_be_overwritten_while_the_model_is_served(
    provider: str, tmp_path: Path
) -> None:
    """One that cuts a mapped file short ends the process with SIGBUS."""
    if provider == "openvino":
        pytest.importorskip("openvino")
    path = _save_naming(tmp_path / "any.onnx", "weights")
    weights = tmp_path / "weights"
    weights.write_bytes(np.array([1, 2], np.float32).tobytes())
    machine = Machine(cache=tmp_path / "cache")
    session = open_session(ModelSource.read(path), Plan(provider), machine)
    assert str(weights) not in Path("/proc/self/maps").read_text()
    weights.write_bytes(b"")
    np.testing.assert_array_equal(
        session.run(None, {"x": np.zeros((1, 2), np.float32)})[0][0], [1, 2]
    )
