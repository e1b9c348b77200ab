"""torchvision's networks as ONNX files whose weights are missing: no time is spent on them."""

import re
import warnings
from pathlib import Path

import onnx_ir as ir
import torch
import torchvision

# What they are compared with is published for these.
FAMILIES = re.compile(
    r"alexnet|vgg\d+(_bn)?|resnet\d+|resnext.*|wide_resnet.*|efficientnet_.*|convnext_.*"
)


def published_models() -> list[str]:
    """The names of all models of the six families."""
    return [name for name in torchvision.models.list_models() if FAMILIES.fullmatch(name)]


def export_weightless(name: str, size: int, path: Path) -> Path:
    """Export a network with unfused BatchNorms, for pictures of size x size."""
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None).eval()
        example = torch.zeros(1, 3, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (example,), dynamo=True, optimize=False, input_names=["input"], verbose=False
        )
    assert program is not None
    model = program.model
    for value in model.graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if getattr(tensor.raw, "device", None) == torch.device("meta"):
            value.const_value = ir.ExternalTensor(
                "missing.data",
                offset=0,
                length=tensor.nbytes,
                dtype=tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name or "",
            )
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    path.write_bytes(ir.to_proto(model).SerializeToString())
    return path
