"""The parts of onnx, beside the whole package: in processes of their own, as imports are global."""

import subprocess
import sys

import pytest

SAME_MODULES = """
from convlens.analysis import onnx_parts as parts
import onnx, onnx.checker, onnx.parser, onnx.shape_inference
assert onnx.ModelProto is onnx.onnx_ml_pb2.ModelProto is parts.ModelProto
assert onnx.onnx_cpp2py_export.shape_inference is parts.compiled_inference
assert onnx.shape_inference.InferenceError is parts.compiled_inference.InferenceError
model = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["": 17]> g (float[1,3,8,8] x) => (float[1,3,8,8] y) {'
    " y = Relu(x) }"
)
onnx.checker.check_model(onnx.shape_inference.infer_shapes(model), full_check=True)
"""


def _run(code: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "before",
    ["", "import onnx", "import onnx.helper", "import numpy", "from onnx import numpy_helper"],
)
def test_whoever_comes_first_both_see_the_same_classes(before: str) -> None:
    _run(before + SAME_MODULES)


@pytest.mark.parametrize(
    "after",
    [
        "import onnx.helper; onnx.helper.make_node('Relu', ['x'], ['y'])",
        "from onnx import numpy_helper; numpy_helper.to_array",
        "from onnx.reference import ReferenceEvaluator",
        "import onnx.onnx_ml_pb2; onnx.load",
        "import onnxruntime",
    ],
)
def test_a_later_import_finds_the_whole_package(after: str) -> None:
    _run(f"import convlens.analysis.onnx_parts\n{after}")


def test_an_analysis_runs_neither_the_onnx_package_nor_numpy() -> None:
    _run(
        "import sys\n"
        "from convlens.analysis import analyze\n"
        "from convlens.analysis.render_text import plain, report_text\n"
        "from convlens.server.settings import BUNDLED_MODELS\n"
        "plain(report_text(analyze(BUNDLED_MODELS / 'lenet5.onnx')))\n"
        "assert not {'numpy', 'onnx.helper', 'rich'} & sys.modules.keys()\n"
    )
