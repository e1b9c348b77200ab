"""The parts of onnx that an analysis needs, without running the onnx package.

`import onnx` runs all of its tools and imports numpy: several times the work of an analysis. The
message classes and the compiled shape inference need neither. They are loaded under their own
names, and the package is put off until somebody uses it: then it runs as always, and finds these
same modules.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader, find_spec, module_from_spec
from types import ModuleType


def _load_parts() -> None:
    package_spec = _found("onnx", find_spec("onnx"))
    parts = {
        name: _loaded(f"onnx.{name}", package_spec.submodule_search_locations)
        for name in ("onnx_ml_pb2", "onnx_cpp2py_export")
    }
    assert package_spec.loader is not None
    package_spec.loader = LazyLoader(package_spec.loader)
    package = module_from_spec(package_spec)
    # Who imports a submodule finds it as an attribute of its package.
    vars(package).update(parts)
    sys.modules["onnx"] = package
    package_spec.loader.exec_module(package)


def _loaded(name: str, search_path: list[str] | None) -> ModuleType:
    # By hand, because the import system would run the package first.
    spec = _found(name, PathFinder.find_spec(name, search_path))
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _found(name: str, spec: ModuleSpec | None) -> ModuleSpec:
    if spec is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return spec


if "onnx" not in sys.modules:
    _load_parts()

# These statements find the modules loaded, and do not ask for the package.
from onnx.onnx_cpp2py_export import shape_inference as compiled_inference  # noqa: E402
from onnx.onnx_ml_pb2 import (  # noqa: E402
    AttributeProto,
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
)

__all__ = [
    "AttributeProto",
    "ModelProto",
    "NodeProto",
    "TensorProto",
    "TypeProto",
    "ValueInfoProto",
    "compiled_inference",
]
