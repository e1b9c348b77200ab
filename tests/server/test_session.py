"""The server's session computes convolutions as others do."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from scipy.signal import correlate2d

from convlens.analysis import analyze
from convlens.server.errors import ModelLoadError
from convlens.server.model import load_model, run_session
from convlens.server.plan import Machine, Plan
from convlens.server.providers import ModelSource, Session, choose_provider, open_session
from tests.server.graphs import save_graph, save_total, save_two_inputs, save_types
from tests.support import save_model


def _open(path: Path) -> Session:
    return open_session(ModelSource.read(path), Plan(), Machine())


def test_a_convolution_equals_scipys_correlation(tmp_path: Path) -> None:
    picture = np.zeros((5, 5), np.float32)
    picture[1:4, 1:4] = 1
    kernel = np.array([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], np.float32)
    path = save_model(
        tmp_path / "edges.onnx",
        [helper.make_node("Conv", ["input", "kernel"], ["logits"])],
        {"kernel": kernel[None, None]},
        input_shape=("batch", 1, 5, 5),
        output_shape=("batch", 1, 3, 3),
    )
    session = _open(path)
    output = run_session(session, (picture[None, None],), None)[0]
    np.testing.assert_array_equal(output[0, 0], correlate2d(picture, kernel, mode="valid"))


def test_the_textbook_convolution_has_the_textbook_shape_and_parameters(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "conv.onnx"
    layer = torch.nn.Conv2d(3, 16, 3, stride=1, padding=1).eval()
    picture = torch.randn(1, 3, 32, 32)
    torch.onnx.export(layer, (picture,), path, dynamo=True, verbose=False)
    (output,) = run_session(_open(path), (picture.numpy(),), None)
    assert output.shape == (1, 16, 32, 32)
    np.testing.assert_allclose(output, layer(picture).detach().numpy(), atol=1e-5)
    report = analyze(path)
    assert report.layers[0].outputs[0].shape == (1, 16, 32, 32)
    assert report.totals.parameters == 448


def test_a_fixed_batch_is_filled_up_and_cut_again(tmp_path: Path) -> None:
    path = save_model(
        tmp_path / "fixed.onnx",
        [helper.make_node("Mul", ["input", "two"], ["logits"])],
        {"two": np.array(2.0, np.float32)},
        input_shape=(4, 3),
        output_shape=(4, 3),
    )
    session = _open(path)
    for n in (1, 4, 6, 9):
        batch = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
        (output,) = run_session(session, (batch,), 4)
        np.testing.assert_array_equal(output, batch * 2)


def test_auto_takes_a_provider_that_works() -> None:
    assert choose_provider("auto") in ("cpu", "cuda")
    assert choose_provider("cpu") == "cpu"


def test_a_model_with_a_type_that_cannot_be_handed_over_is_refused_by_name(tmp_path: Path) -> None:
    path = save_graph(
        tmp_path / "bfloat.onnx",
        [helper.make_node("Cast", ["half"], ["whole"], to=TensorProto.FLOAT)],
        {"half": (TensorProto.BFLOAT16, ("batch", 2))},
        {"whole": (TensorProto.FLOAT, ("batch", 2))},
    )
    with pytest.raises(ModelLoadError, match=r"'half' is tensor\(bfloat16\), which cannot be"):
        load_model("bfloat", "1", ModelSource.read(path), Plan(), Machine())


def test_a_model_without_an_output_is_refused(tmp_path: Path) -> None:
    row = (TensorProto.FLOAT, ("batch", 2))
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save_graph(tmp_path / "mute.onnx", nodes, {"x": row}, {})
    with pytest.raises(ModelLoadError, match="it has no output"):
        load_model("mute", "1", ModelSource.read(path), Plan(), Machine())


def test_labels_are_counted_also_where_nothing_can_be_run_before_a_request_comes(
    tmp_path: Path,
) -> None:
    path = save_model(
        tmp_path / "any.onnx",
        [
            helper.make_node("ReduceMean", ["input"], ["mean"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        ],
        {"weights": np.ones((1, 2), np.float32)},
        input_shape=("batch", 1, "height", "width"),
        metadata={"labels": ["a", "b", "c"]},
    )
    with pytest.raises(ModelLoadError, match=r"it has 2 classes, and convlens.labels names 3"):
        load_model("any", "1", ModelSource.read(path), Plan(), Machine())


@pytest.mark.parametrize(
    ("save", "batched"), [(save_two_inputs, True), (save_types, False), (save_total, False)]
)
def test_requests_share_runs_where_every_tensor_has_the_same_symbolic_batch(
    tmp_path: Path, save: Callable[[Path], Path], batched: bool
) -> None:
    source = ModelSource.read(save(tmp_path / "any.onnx"))
    model = load_model("any", "1", source, Plan(), Machine())
    assert model.signature.batched is batched
