"""The structure of a network without its weights."""

import onnx

# What is smaller may be the shape of a Reshape, or the pads of a Pad.
_MAX_KEPT_BYTES = 256


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, its weights said to lie in a file beside it that is not there."""
    constants = [
        attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    for tensor in (*model.graph.initializer, *constants):
        size = len(tensor.SerializeToString())
        if size <= _MAX_KEPT_BYTES:
            continue
        name, dims, data_type = tensor.name, list(tensor.dims), tensor.data_type
        tensor.Clear()
        tensor.name, tensor.data_type = name, data_type
        tensor.dims.extend(dims)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="missing.data")
    return model
