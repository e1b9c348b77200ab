"""One request in the form that each server takes fastest, and what its answer says."""

import json
import urllib.request
from dataclasses import dataclass

import grpc
import numpy as np

from convlens.proto import classifier_pb2, inference_pb2

CLASSIFY = "/convlens.v1.Classifier/Classify"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
BOUNDARY = "picture-boundary"


@dataclass(frozen=True)
class Question:
    """What is sent, again and again.

    Attributes:
        path: of the URL; of gRPC, the method.
        content_type: `application/grpc` says that it goes over HTTP/2.
        body: of an HTTP request, or a serialised message.
    """

    path: str
    content_type: str
    body: bytes

    @property
    def grpc(self) -> bool:
        """Whether it is a gRPC call."""
        return self.content_type == "application/grpc"

    @property
    def wire_body(self) -> bytes:
        """The body as a connection carries it: a gRPC message after its flag and length."""
        return (b"\0" + len(self.body).to_bytes(4, "big") if self.grpc else b"") + self.body


def raw(body: bytes, path: str = "/classify") -> Question:
    """The bytes, and nothing around them."""
    return Question(path, "application/octet-stream", body)


def multipart(body: bytes) -> Question:
    """A form with one file, `images`."""
    head = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        'name="images"; filename="1.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    whole = head.encode() + body + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Question("/classify", f"multipart/form-data; boundary={BOUNDARY}", whole)


def classify(body: bytes, model: str) -> Question:
    """Our own call."""
    message = classifier_pb2.ClassifyRequest(model=model, image=body)
    return Question(CLASSIFY, "application/grpc", message.SerializeToString())


def infer_tensor(values: np.ndarray, model: str) -> Question:
    """A tensor by the Open Inference Protocol."""
    message = inference_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="input", datatype="FP32", shape=values.shape)
    message.raw_input_contents.append(values.tobytes())
    return Question(MODEL_INFER, "application/grpc", message.SerializeToString())


def infer_picture(body: bytes, model: str, shape: tuple[int, ...]) -> Question:
    """An encoded picture by the Open Inference Protocol."""
    message = inference_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="image", datatype="BYTES", shape=shape)
    message.raw_input_contents.append(len(body).to_bytes(4, "little") + body)
    return Question(MODEL_INFER, "application/grpc", message.SerializeToString())


def ask(question: Question, port: int) -> bytes:
    """One answer's body.

    Raises:
        OSError, grpc.RpcError: the server is not there, or refuses.
    """
    if question.grpc:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(question.path)
            return method(question.body, timeout=30)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{question.path}",
        question.body,
        {"Content-Type": question.content_type},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def top_1(question: Question, answer: bytes) -> int:
    """The class that an answer puts first."""
    if question.path == CLASSIFY:
        return classifier_pb2.ClassifyResponse.FromString(answer).predictions[0].index
    if question.path == MODEL_INFER:
        return _top_1_of_tensors(inference_pb2.ModelInferResponse.FromString(answer))
    if answer[:1] in (b"{", b"["):
        said = json.loads(answer)
        return int((said[0] if isinstance(said, list) else said)["predictions"][0]["index"])
    return int(np.frombuffer(answer, np.float32).argmax())


def _top_1_of_tensors(answer: inference_pb2.ModelInferResponse) -> int:
    """`indices` by probability, or logits; in raw contents or in typed ones."""
    number = next((n for n, it in enumerate(answer.outputs) if it.name == "indices"), 0)
    output = answer.outputs[number]
    if output.name == "indices":
        if answer.raw_output_contents:
            return int(np.frombuffer(answer.raw_output_contents[number], np.int64)[0])
        return output.contents.int64_contents[0]
    if answer.raw_output_contents:
        return int(np.frombuffer(answer.raw_output_contents[0], np.float32).argmax())
    return int(np.argmax(output.contents.fp32_contents))
