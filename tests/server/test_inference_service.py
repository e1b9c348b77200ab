"""`inference.GRPCInferenceService` over a real socket: what goes in, what comes out."""

from pathlib import Path

import grpc
import numpy as np
import onnxruntime
import pytest

from convlens.client import Client
from convlens.proto import inference_pb2 as pb
from tests.server.tensors import (
    TYPES,
    Array,
    Stub,
    one_row,
    outputs_of,
    picture_request,
    raw_request,
    refusal,
    typed_request,
)
from tests.support import BUNDLED, DIGITS, RunningServer, grey_png


def _digits(count: int) -> Array:
    return np.random.RandomState(0).standard_normal((count, 1, 32, 32)).astype(np.float32)


def _logits(batch: Array) -> Array:
    session = onnxruntime.InferenceSession(BUNDLED, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": batch})[0]


def test_the_answer_is_what_onnxruntime_computes(lenet5: Stub) -> None:
    batch = _digits(3)
    request = raw_request("lenet5", input=("FP32", batch))
    request.id = "mine"
    response = lenet5.ModelInfer(request)
    assert (response.model_name, response.model_version, response.id) == ("lenet5", "1", "mine")
    np.testing.assert_allclose(outputs_of(response)["logits"], _logits(batch), atol=1e-5)


def test_typed_contents_are_answered_as_raw_ones(lenet5: Stub) -> None:
    batch = _digits(2)
    raw = lenet5.ModelInfer(raw_request("lenet5", input=("FP32", batch)))
    typed = lenet5.ModelInfer(typed_request("lenet5", input=("FP32", batch, "fp32_contents")))
    np.testing.assert_array_equal(outputs_of(typed)["logits"], outputs_of(raw)["logits"])


def test_several_inputs_and_outputs_and_those_that_are_asked_for(stub: Stub) -> None:
    request = raw_request("two", right=("FP32", one_row(4, 5, 6)), left=("FP32", one_row(1, 2, 3)))
    outputs = outputs_of(stub.ModelInfer(request))
    assert list(outputs) == ["sum", "product"]
    np.testing.assert_array_equal(outputs["sum"], one_row(5, 7, 9))
    np.testing.assert_array_equal(outputs["product"], one_row(4, 10, 18))
    request.outputs.add(name="product")
    assert list(outputs_of(stub.ModelInfer(request))) == ["product"]


def test_every_datatype_comes_back_as_it_was_sent(stub: Stub) -> None:
    inputs = {name: (name.upper(), values) for name, (values, _) in TYPES.items()}
    outputs = outputs_of(stub.ModelInfer(raw_request("types", **inputs)))
    for name, (values, _) in TYPES.items():
        np.testing.assert_array_equal(outputs[f"{name}_out"], values)
        assert outputs[f"{name}_out"].dtype == values.dtype


def test_every_datatype_but_fp16_has_typed_contents(stub: Stub) -> None:
    request = pb.ModelInferRequest(model_name="types")
    for name, (values, field) in TYPES.items():
        entry = request.inputs.add(name=name, datatype=name.upper(), shape=values.shape)
        getattr(entry.contents, field or "fp32_contents").extend(values.flat)
    code, message = refusal(stub, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message == "input 'fp16': FP16 has no typed contents; send it in raw_input_contents"
    fields = {entry.name: entry for entry in request.inputs}
    fields["fp16"].CopyFrom(fields["fp32"])
    code, message = refusal(stub, request)
    assert message == "input 'fp32' is there twice"  # all of the others could be read


def test_a_model_without_a_batch_axis_is_served_request_by_request(stub: Stub) -> None:
    response = stub.ModelInfer(raw_request("total", values=("FP32", np.ones((5, 2), np.float32))))
    assert list(response.outputs[0].shape) == []
    assert outputs_of(response)["total"] == 10.0


def test_a_model_that_cannot_run_on_zeros_is_served(stub: Stub) -> None:
    response = stub.ModelInfer(raw_request("zeros_fail", id=("INT64", np.array([10]))))
    np.testing.assert_array_equal(outputs_of(response)["row"], one_row(1, 2))


def test_pictures_as_bytes_are_preprocessed_as_classify_does_it(
    lenet5_server: RunningServer,
) -> None:
    pictures = [path.read_bytes() for path in DIGITS]
    with (
        Client(lenet5_server.address) as client,
        grpc.insecure_channel(lenet5_server.address) as channel,
    ):
        logits = outputs_of(Stub(channel).ModelInfer(picture_request("lenet5", *pictures)))[
            "logits"
        ]
        assert logits.shape == (20, 10)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        for picture, row in zip(pictures, probabilities, strict=True):
            first = client.classify(picture).predictions[0]
            assert row.argmax() == first.index
            assert row.max() == pytest.approx(first.probability, abs=1e-5)


def test_photographs_of_one_request_are_answered_in_their_order(
    lenet5: Stub, photographs: dict[str, Path]
) -> None:
    pictures = [path.read_bytes() for path in photographs.values()] * 3  # more than one batch
    together = outputs_of(lenet5.ModelInfer(picture_request("lenet5", *pictures)))["logits"]
    apart = [
        outputs_of(lenet5.ModelInfer(picture_request("lenet5", picture)))["logits"]
        for picture in pictures
    ]
    np.testing.assert_allclose(together, np.concatenate(apart), rtol=1e-4, atol=1e-5)
    pictures[9:9] = [pictures[0][:1000], b"no picture"]
    code, message = refusal(lenet5, picture_request("lenet5", *pictures))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("picture 9: the picture is broken")


def test_a_bad_picture_fails_the_request_and_is_named(stub: Stub) -> None:
    request = picture_request("brightness", grey_png(1), b"no picture", b"")
    code, message = refusal(stub, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("picture 1: the 10 bytes are not a picture")


def test_pictures_for_a_model_of_tensors_are_refused(stub: Stub) -> None:
    code, message = refusal(stub, picture_request("two", grey_png(1)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "takes tensors, not pictures" in message


def test_no_pictures_or_pictures_of_another_shape_are_refused(stub: Stub) -> None:
    for pictures in (np.array([], object), np.array([[grey_png(1)]], object)):
        code, message = refusal(stub, raw_request("brightness", image=("BYTES", pictures)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "pictures come as 'image' alone, BYTES [n], at least one" in message


def test_classification_names_the_highest_values_without_softmax(stub: Stub) -> None:
    request = picture_request("brightness", grey_png(255), grey_png(0))
    output = request.outputs.add(name="logits")
    for k, expected in (
        (1, [[b"10.000000:0:day- bright"], [b"10.000000:1:night- dark"]]),
        (
            99,
            [
                [b"10.000000:0:day- bright", b"-10.000000:1:night- dark"],
                [b"10.000000:1:night- dark", b"-10.000000:0:day- bright"],
            ],
        ),
    ):
        output.parameters["classification"].int64_param = k
        response = stub.ModelInfer(request)
        assert response.outputs[0].datatype == "BYTES"
        assert outputs_of(response)["logits"].tolist() == expected


def test_classification_without_labels_gives_value_and_index(stub: Stub) -> None:
    request = raw_request("two", left=("FP32", one_row(1, 3, 2)), right=("FP32", one_row(0, 0, 0)))
    request.outputs.add(name="sum").parameters["classification"].int64_param = 2
    assert outputs_of(stub.ModelInfer(request))["sum"].tolist() == [[b"3.000000:1", b"2.000000:2"]]


def test_classification_of_what_has_no_classes_is_refused(stub: Stub) -> None:
    request = raw_request("total", values=("FP32", np.ones((1, 2), np.float32)))
    output = request.outputs.add(name="total")
    output.parameters["classification"].int64_param = 1
    assert "needs numbers of shape [batch, classes]" in refusal(stub, request)[1]
    output.parameters["classification"].string_param = "1"
    assert "needs an int64_param" in refusal(stub, request)[1]
