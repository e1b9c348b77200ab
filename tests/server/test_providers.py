"""Every provider that is there computes the same; one that is not says so."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from convlens.client import Client
from convlens.server.errors import ModelLoadError, StartError
from convlens.server.model import load_model
from convlens.server.plan import Gpu, Machine, Plan
from convlens.server.providers import (
    PROVIDERS,
    ModelSource,
    choose_provider,
    open_session,
)
from convlens.server.providers.cache import alone_in, cache_folder, cached_folder
from convlens.server.providers.nvidia import cuda_options
from convlens.server.providers.openvino import copies
from tests.server.graphs import save_graph, save_two_inputs
from tests.support import BUNDLED, DIGITS, running_server, save_deep_model

openvino = pytest.mark.skipif(
    PROVIDERS["openvino"].why_not() is not None, reason=str(PROVIDERS["openvino"].why_not())
)


def _bf16_here() -> bool:
    try:
        open_session(ModelSource.read(BUNDLED), Plan("openvino", "bf16"), Machine())
    except ModelLoadError:
        return False
    return True


@openvino
@pytest.mark.parametrize("plan", [Plan("openvino"), Plan("openvino", threads=2, instances=2)])
def test_openvino_computes_in_fp32_unless_it_is_told_otherwise(plan: Plan) -> None:
    source = ModelSource.read(BUNDLED)
    model = load_model("lenet5", "1", source, plan, Machine())
    expected = load_model("lenet5", "1", source, Plan(), Machine())
    assert model.signature == expected.signature
    assert model.card.golden is not None
    inputs = (model.card.golden.input(),)
    np.testing.assert_allclose(model.run(inputs)[0], expected.run(inputs)[0], atol=1e-4)


@openvino
@pytest.mark.parametrize("size_bytes", [250_000, 2**40])
def test_openvino_runs_as_many_at_once_as_it_is_told_whatever_the_weights_take(
    size_bytes: int,
) -> None:
    source = replace(ModelSource.read(BUNDLED), size_bytes=size_bytes)
    session = open_session(source, Plan("openvino", instances=3), Machine())
    pictures = np.random.default_rng(0).random((40, 1, 1, 32, 32), np.float32)
    alone = [session.run(None, {"input": picture})[0] for picture in pictures]
    with ThreadPoolExecutor(5) as threads:
        together = list(threads.map(lambda one: session.run(None, {"input": one})[0], pictures))
    np.testing.assert_array_equal(alone, together)


def test_small_models_are_compiled_for_each_run_and_large_ones_for_all() -> None:
    plan = Plan("openvino", instances=4)
    assert copies(128 * 2**20, plan) == 4
    assert copies(128 * 2**20 + 1, plan) == 1


@openvino
def test_openvino_keeps_the_names_of_axes_and_the_order_of_inputs(tmp_path: Path) -> None:
    source = ModelSource.read(save_two_inputs(tmp_path / "two.onnx"))
    model = load_model("two", "1", source, Plan("openvino"), Machine())
    expected = load_model("two", "1", source, Plan(), Machine())
    assert model.signature == expected.signature
    assert model.signature.batched
    left, right = np.ones((2, 3), np.float32), np.full((2, 3), 3, np.float32)
    total, product = model.run((left, right))
    np.testing.assert_array_equal(total, left + right)
    np.testing.assert_array_equal(product, right)


@openvino
@pytest.mark.skipif(not _bf16_here(), reason="this processor does not compute in bf16")
def test_bf16_differs_from_fp32_and_stays_within_its_own_bound() -> None:
    model = load_model(
        "lenet5", "1", ModelSource.read(BUNDLED), Plan("openvino", "bf16"), Machine()
    )
    assert model.precision == "bf16"
    golden = model.card.golden
    assert golden is not None
    assert golden.tolerance < golden.deviation(model.run((golden.input(),))[0]) < 0.05


@openvino
def test_a_server_with_openvino_names_the_digits_and_its_provider() -> None:
    with running_server("--provider", "openvino") as server, Client(server.address) as client:
        assert {entry.provider for entry in client.list_models()} == {"openvino"}
        for picture in DIGITS:
            assert client.classify(picture).predictions[0].label == picture.name.split("-")[0]


@openvino
def test_a_graph_that_openvino_cannot_read_is_an_error_and_not_run_elsewhere(
    tmp_path: Path,
) -> None:
    value = onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    node = onnx.helper.make_node("NoSuchOperator", ["x"], ["y"], domain="nobody")
    graph = onnx.helper.make_graph(
        [node], "odd", [value], [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("nobody", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "odd.onnx")
    with pytest.raises(ModelLoadError, match=r"openvino cannot load it: .*NoSuchOperator"):
        open_session(ModelSource.read(tmp_path / "odd.onnx"), Plan("openvino"), Machine())


def test_a_precision_that_a_provider_has_not_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="cpu computes in fp32, not bf16"):
        open_session(ModelSource.read(BUNDLED), Plan("cpu", "bf16"), Machine())


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_gpu_provider_that_is_not_there_says_what_to_install(name: str) -> None:
    reason = PROVIDERS[name].why_not()
    if reason is None:
        pytest.skip(f"{name} works here")
    with pytest.raises(StartError, match=f"--provider {name}: "):
        choose_provider(name)


def test_what_is_kept_of_a_large_model_computes_the_same(tmp_path: Path) -> None:
    source = ModelSource.read(save_deep_model(tmp_path / "deep.onnx", layers=2))
    assert source.path.stat().st_size > 1_000_000
    picture = {"input": np.random.default_rng(0).random((2, 1, 32, 32), np.float32)}
    machine = Machine(cache=tmp_path / "cache")
    expected = open_session(source, Plan(), Machine()).run(None, picture)[0]
    for _ in range(2):  # made, then found
        kept = open_session(source, Plan(), machine).run(None, picture)[0]
        np.testing.assert_array_equal(kept, expected)
    (file,) = (tmp_path / "cache").rglob("*.onnx")
    weights = file.with_name("weights.bin")
    assert weights.stat().st_size > file.stat().st_size
    file.write_bytes(b"\x08\x08broken")
    repaired = open_session(source, Plan(), machine).run(None, picture)[0]
    np.testing.assert_array_equal(repaired, expected)
    assert not file.parent.exists()
    open_session(source, Plan(), machine)  # makes it anew
    assert weights.stat().st_size > file.stat().st_size


@pytest.mark.parametrize("provider", ["cpu", pytest.param("openvino", marks=openvino)])
def test_weights_in_a_file_of_their_own_may_change(provider: str, tmp_path: Path) -> None:
    """The bytes of the model's own file, which has a name in the cache, stay the same."""
    path = tmp_path / "apart.onnx"
    for value in (1.0, 2.0):
        save_graph(
            path,
            [helper.make_node("MatMul", ["x", "weights"], ["y"])],
            {"x": (TensorProto.FLOAT, ("batch", 512))},
            {"y": (TensorProto.FLOAT, ("batch", 512))},
            {"weights": np.full((512, 512), value, np.float32)},
        )
        model = onnx.load(path)
        # Large enough by itself to be kept.
        model.doc_string = " " * 1_000_000
        path.with_name("weights").unlink(missing_ok=True)
        onnx.save(model, path, save_as_external_data=True, location="weights")
        source = ModelSource.read(path)
        served = load_model("apart", "1", source, Plan(provider), Machine(tmp_path / "cache"))
        outputs = served.run((np.ones((1, 512), np.float32),))
        np.testing.assert_array_equal(outputs[0], np.full((1, 512), 512 * value))


def test_a_file_that_changes_while_it_is_read_is_not_kept_under_its_former_name(
    tmp_path: Path,
) -> None:
    path = save_deep_model(tmp_path / "deep.onnx", layers=2)
    source = ModelSource.read(path)
    save_deep_model(path, layers=3)
    open_session(source, Plan(), Machine(cache=tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.onnx"))


@openvino
def test_openvino_compiles_a_model_that_another_process_compiles_once_that_is_done(
    tmp_path: Path,
) -> None:
    source, plan, machine = ModelSource.read(BUNDLED), Plan("openvino"), Machine(tmp_path)
    open_session(source, plan, machine)
    (compiled,) = tmp_path.rglob("*.blob")
    compiled.unlink()
    with ThreadPoolExecutor(1) as thread:
        with alone_in(compiled.parent):
            opening = thread.submit(open_session, source, plan, machine)
            with pytest.raises(TimeoutError):
                opening.result(0.5)
            assert not compiled.exists()
        opening.result(60)
    assert compiled.exists()


@openvino
def test_openvino_takes_a_single_number(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "scale.onnx",
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        {"x": (TensorProto.FLOAT, ("batch", 2)), "factor": (TensorProto.FLOAT, ())},
        {"y": (TensorProto.FLOAT, ("batch", 2))},
    )
    session = open_session(ModelSource.read(path), Plan("openvino"), Machine())
    feed = {"x": np.ones((1, 2), np.float32), "factor": np.array(3, np.float32)}
    np.testing.assert_array_equal(session.run(None, feed)[0], [[3, 3]])


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    assert cache_folder(tmp_path / "file", "key") is None
    assert "no cache in" in caplog.text


def test_files_of_the_cache_are_there_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(b"half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        cached_folder(tmp_path, "optimised", fail)
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_cache_that_another_process_made_meanwhile_are_taken(tmp_path: Path) -> None:
    def make(folder: Path) -> None:
        (tmp_path / "optimised").mkdir()
        (tmp_path / "optimised" / "model.onnx").write_bytes(b"theirs")
        (folder / "model.onnx").write_bytes(b"ours")

    made = cached_folder(tmp_path, "optimised", make)
    assert (made / "model.onnx").read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [made]


def test_a_gpu_rounds_nothing_and_measures_convolutions_unless_told_otherwise() -> None:
    assert cuda_options(Gpu()) == {
        "device_id": "0",
        "use_tf32": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "enable_cuda_graph": "0",
    }
    bounded = cuda_options(Gpu(device=1, memory_bytes=2**30, tf32=True))
    assert bounded["gpu_mem_limit"] == str(2**30)
    assert bounded["arena_extend_strategy"] == "kSameAsRequested"
    assert (bounded["device_id"], bounded["use_tf32"]) == ("1", "1")
