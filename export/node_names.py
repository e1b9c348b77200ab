"""Names the nodes of an exported graph after the modules of the network that they came from."""

import ast
from collections import Counter

import onnx_ir as ir

# The exporter's own key, which readers of PyTorch's files know: the modules from the outermost
# to the innermost, then the operator, as the text of a Python list.
NAME_SCOPES = "pkg.torch.onnx.name_scopes"
_CLASS_HIERARCHY = "pkg.torch.onnx.class_hierarchy"


def name_after_modules(model: ir.Model) -> None:
    """Rename nodes and the values between them in place: "layer1.0.conv2", "layer1.0.add".

    A node with a weight is called by the module that owns the weight, which tells a convolution
    from the BatchNorm that was folded into it; any other by PyTorch's own module that it came
    from, or by its operator in the user's module. Repeated names are numbered: "relu", "relu_1".
    """
    seen: Counter[str] = Counter()
    for node in model.graph:
        scopes = _list(node, NAME_SCOPES)
        if node.op_type == "MatMul" and len(scopes) > 1:
            _name_unnamed(node, 1, f"{scopes[-2]}.weight")
        owner = _weight_owner(node)
        if owner is not None:
            node.metadata_props[NAME_SCOPES] = repr([*scopes[:-2], owner, *scopes[-1:]])
            _name_unnamed(node, 2, f"{owner}.bias")
        name = owner or _module_or_operator(node, scopes[-2] if len(scopes) > 1 else "")
        count = seen[name]
        seen[name] += 1
        node.name = f"{name}_{count}" if count else name
        for index, output in enumerate(node.outputs):
            if not output.is_graph_output():
                output.name = f"{node.name}.{index}" if index else node.name


def _weight_owner(node: ir.Node) -> str | None:
    if len(node.inputs) < 2 or node.inputs[1] is None or not node.inputs[1].is_initializer():
        return None
    owner, _, leaf = (node.inputs[1].name or "").rpartition(".")
    return owner if leaf == "weight" and owner else None


def _name_unnamed(node: ir.Node, index: int, name: str) -> None:
    """Name an initializer that a pass has made: a transposed weight, a folded BatchNorm's bias."""
    for value in node.inputs[index : index + 1]:
        if value is None or not value.is_initializer():
            continue
        if "." not in (value.name or "") or value.name == f"{name.removesuffix('bias')}weight_bias":
            value.name = name


def _module_or_operator(node: ir.Node, module: str) -> str:
    classes = _list(node, _CLASS_HIERARCHY)
    if module and len(classes) > 1 and classes[-2].startswith("torch.nn."):
        return module
    operator = node.op_type.lower()
    return f"{module}.{operator}" if module else operator


def _list(node: ir.Node, key: str) -> list[str]:
    return list(ast.literal_eval(node.metadata_props.get(key, "[]")))
