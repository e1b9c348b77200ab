import hashlib
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest

from convlens.analysis import AnalysisError, analyze, read_metadata
from convlens.analysis.errors import ModelFileError
from convlens.analysis.model_file import read_model, sha256
from tests.analysis.graphs import node, save_graph, save_lenet5, weight


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.onnx: No such file"):
        read_model(tmp_path / "none.onnx")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a directory"):
        read_model(tmp_path)


def test_a_device_without_end_is_refused() -> None:
    with pytest.raises(ModelFileError, match="not a regular file"):
        read_model("/dev/zero")


def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="not a regular file"):
        read_model(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"just some words\n" * 100, "not an ONNX file"),
        (b'{"json": true}', "not an ONNX file"),
        (b"PK\x03\x04" + bytes(500), "not an ONNX file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "not an ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an ONNX file"),
        (b"\x08\x0a", "holds no graph"),
    ],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    for read in (read_model, read_metadata, analyze):
        with pytest.raises(ModelFileError, match=message) as caught:
            read(tmp_path / "model.onnx")
        assert "\n" not in str(caught.value)


def test_a_gigabyte_of_zeros_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "zeros.onnx"
    with path.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(ModelFileError, match="not an ONNX file"):
        read_model(path)


def test_a_truncated_file_is_refused(tmp_path: Path, lenet5: Path) -> None:
    content = lenet5.read_bytes()
    path = tmp_path / "cut.onnx"
    for length in (len(content) // 2, len(content) * 9 // 10, len(content) - 100):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match="truncated or damaged"):
            read_model(path)


def test_damaged_files_give_an_error_or_a_report_and_never_a_crash(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "conv", pads=[1, 1, 1, 1]),
        node("Relu", "conv", "relu"),
        node("Reshape", "relu shape", "reshape"),
    ]
    stored = {"w": weight(2, 1, 3, 3), "shape": np.array([0, -1], dtype=np.int64)}
    content = save_graph(tmp_path / "whole.onnx", nodes, stored).read_bytes()
    rng = random.Random(0)
    path = tmp_path / "damaged.onnx"
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            position = rng.randrange(len(damaged))
            if rng.random() < 0.7:
                damaged[position] = rng.randrange(256)
            else:
                del damaged[position : position + rng.randint(1, 9)]
        path.write_bytes(damaged)
        try:
            analyze(path).to_json()
            outcomes.add("report")
        except AnalysisError:
            outcomes.add("error")
    assert outcomes == {"report", "error"}


def test_memory_does_not_grow_with_the_weights(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "large.onnx",
        [node("Flatten", "x", "flat"), node("MatMul", "flat w", "y")],
        {"w": weight(1024, 8192)},
    )
    assert path.stat().st_size > 32_000_000
    analyze(path)
    tracemalloc.start()
    report = analyze(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert report.totals.parameters == 1024 * 8192
    assert peak_bytes < 1_000_000


def test_a_graph_whose_external_weights_are_missing_is_analysed(
    tmp_path: Path, lenet5: Path
) -> None:
    path = tmp_path / "external.onnx"
    onnx.save_model(
        onnx.load(lenet5), path, save_as_external_data=True, location="weights", size_threshold=0
    )
    (tmp_path / "weights").unlink()

    report = analyze(path)

    assert report.totals == analyze(lenet5).totals
    assert report.layer("conv3").receptive_field.size == (32, 32)


def test_weights_in_constants_count_as_initializers_do(tmp_path: Path) -> None:
    from onnx import numpy_helper

    constant = onnx.helper.make_node(
        "Constant", [], ["w"], value=numpy_helper.from_array(weight(16, 1, 20, 20))
    )
    path = save_graph(tmp_path / "constant.onnx", [constant, node("Conv", "x w", "conv")], {})

    report = analyze(path)

    assert report.totals.parameters == 16 * 400
    assert [layer.op_type for layer in report.layers] == ["Conv"]


def test_the_metadata_is_read_as_it_was_written(tmp_path: Path) -> None:
    metadata = {"convlens.labels": '["a", "b"]', "someone.else": "ünïcode \n", "empty": ""}
    path = save_lenet5(tmp_path / "model.onnx", metadata)

    assert read_metadata(path) == metadata


def test_reading_the_metadata_does_not_import_onnx(lenet5: Path) -> None:
    script = (
        "import sys; from convlens.analysis import read_metadata; read_metadata(sys.argv[1]); "
        "sys.exit('onnx' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(lenet5)], check=True)


def test_the_checksum_is_that_of_the_whole_file(lenet5: Path) -> None:
    assert sha256(lenet5) == hashlib.sha256(lenet5.read_bytes()).hexdigest()
