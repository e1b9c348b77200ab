"""Calls a server as an existing client would, and prints what came back as JSON.

It runs in an environment of its own: `tritonclient` registers the package that our stubs do.

    python tritonclient_calls.py HOST:PORT DESCRIPTORS PICTURE...
"""

import json
import queue
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2


def main() -> None:
    """Make every call once."""
    address, descriptors, *paths = sys.argv[1:]
    pictures = np.array([Path(path).read_bytes() for path in paths], object)
    client = triton.InferenceServerClient(address)
    results = {
        "differences": differences(Path(descriptors).read_bytes()),
        "health": [
            client.is_server_live(),
            client.is_server_ready(),
            client.is_model_ready("lenet5"),
            client.is_model_ready("nobody"),
        ],
        "infer": infer(client),
        "pictures": classify(client, pictures),
        "async_infer": async_infer(client),
        "stream": stream(client),
        "errors": errors(client),
        "server_metadata": client.get_server_metadata(as_json=True),
        "model_metadata": client.get_model_metadata("lenet5", as_json=True),
        "model_config": client.get_model_config("lenet5", as_json=True),
        "statistics": client.get_inference_statistics("lenet5", as_json=True),
        "repository_index": client.get_model_repository_index(as_json=True),
        "reload": reload(client),
    }
    client.close()
    print(json.dumps(results))


def differences(serialized: bytes) -> list[str]:
    """Where our messages and Triton's disagree on a field's name, type or label."""
    ours = descriptor_pb2.FileDescriptorProto.FromString(serialized)
    theirs: dict[tuple[str, int], Any] = {}
    for module in (service_pb2, model_config_pb2):
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        theirs.update(_numbered(file))
    return [
        f"{message}: {value} where Triton has {theirs.get((message, number))}"
        for (message, number), value in _numbered(ours).items()
        if theirs.get((message, number)) != value
    ]


def _numbered(file: Any) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Every field, enum value and method of a file, by its owner's name and its number."""
    found: dict[tuple[str, int], tuple[Any, ...]] = {}

    def add_enum(enum: Any, prefix: str) -> None:
        for value in enum.value:
            found[f"{prefix}{enum.name}", value.number] = (value.name,)

    def add(message: Any, prefix: str) -> None:
        name = f"{prefix}{message.name}"
        for field in message.field:
            found[name, field.number] = (field.name, field.type, field.label, field.type_name)
        for nested in message.nested_type:
            add(nested, f"{name}.")
        for enum in message.enum_type:
            add_enum(enum, f"{name}.")

    for message in file.message_type:
        add(message, "")
    for enum in file.enum_type:
        add_enum(enum, "")
    methods = {method.name: method for service in file.service for method in service.method}
    for method in methods.values():
        streams = (method.client_streaming, method.server_streaming)
        found[method.name, 0] = (method.input_type, method.output_type, *streams)
    return found


def infer(client: Any) -> dict[str, Any]:
    """Two rows, their id, and one output asked for by name."""
    result = client.infer(
        "lenet5",
        [_input(rows=2)],
        outputs=[triton.InferRequestedOutput("logits")],
        request_id="seven",
        client_timeout=10,
    )
    return {"id": result.get_response().id, "logits": result.as_numpy("logits").tolist()}


def classify(client: Any, pictures: Any) -> list[Any]:
    """Encoded pictures with the classification extension."""
    entry = triton.InferInput("image", pictures.shape, "BYTES")
    entry.set_data_from_numpy(pictures)
    wanted = triton.InferRequestedOutput("logits", class_count=2)
    answer = client.infer("lenet5", [entry], outputs=[wanted]).as_numpy("logits")
    return [[text.decode() for text in row] for row in answer]


def async_infer(client: Any) -> list[Any]:
    """Eight calls at once."""
    answers: queue.Queue[Any] = queue.Queue()
    for index in range(8):
        client.async_infer(
            "lenet5",
            [_input(rows=1 + index % 3)],
            callback=lambda result, error: answers.put((result, error)),
            request_id=str(index),
        )
    results = [answers.get(timeout=20) for _ in range(8)]
    return sorted(
        [result.get_response().id, list(result.as_numpy("logits").shape), str(error)]
        for result, error in results
    )


def stream(client: Any) -> list[Any]:
    """A stream with a wrong request among right ones."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for index in range(6):
        model = "nobody" if index == 3 else "lenet5"
        client.async_stream_infer(model, [_input(rows=1)], request_id=str(index))
    results = [answers.get(timeout=20) for _ in range(6)]
    client.stop_stream()
    return [error.message() if error else result.get_response().id for result, error in results]


def errors(client: Any) -> dict[str, list[str]]:
    """What the client's exception says of each wrong call."""
    half = triton.InferInput("input", [1, 1, 32, 32], "FP16")
    half.set_data_from_numpy(np.zeros((1, 1, 32, 32), np.float16))
    calls: dict[str, Callable[[], Any]] = {
        "unknown model": lambda: client.infer("nobody", [_input(rows=1)]),
        "wrong datatype": lambda: client.infer("lenet5", [half]),
        "load of an unknown model": lambda: client.load_model("nobody"),
        "unload of an unknown model": lambda: client.unload_model("nobody"),
        "trace": lambda: client.get_trace_settings(),
        "shared memory": lambda: client.get_system_shared_memory_status(),
    }
    said = {}
    for name, call in calls.items():
        try:
            call()
        except triton.InferenceServerException as error:
            said[name] = [error.status(), error.message()]
    return said


def reload(client: Any) -> dict[str, Any]:
    """A model goes and comes back."""
    client.unload_model("lenet5")
    unloaded = client.is_model_ready("lenet5")
    index = client.get_model_repository_index(as_json=True)
    client.load_model("lenet5")
    return {"unloaded": unloaded, "index": index, "loaded": client.is_model_ready("lenet5")}


def _input(rows: int) -> Any:
    values = np.arange(rows * 1024, dtype=np.float32).reshape(rows, 1, 32, 32) / 1024
    entry = triton.InferInput("input", values.shape, "FP32")
    entry.set_data_from_numpy(values)
    return entry


if __name__ == "__main__":
    main()
