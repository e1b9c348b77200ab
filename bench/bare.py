"""A bare `grpc.aio` handler, which answers every ModelInfer with the same message.

What it costs is gRPC's own part of an answer: `bench/workers.py` runs it beside the server.
"""

from typing import Any

import grpc
import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from convlens.proto import inference_pb2 as pb
from convlens.server.tallies import Counts


async def main() -> None:
    """Answer until the process is terminated; says where, as `convlens serve` does."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    answers = Counts("bare_answers_total", "Answers.", (), registry).labels()
    response = pb.ModelInferResponse(model_name="lenet5", model_version="1")
    response.outputs.add(name="logits", datatype="FP32", shape=[1, 10])
    response.raw_output_contents.append(bytes(40))

    async def answer(_request: pb.ModelInferRequest, _context: Any) -> pb.ModelInferResponse:
        answers.inc()
        return response

    handler = grpc.unary_unary_rpc_method_handler(
        answer, pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString
    )
    service = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelInfer": handler}
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    http, _ = start_http_server(0, "127.0.0.1", registry)
    print(
        f"on 127.0.0.1:{port}, metrics at http://127.0.0.1:{http.server_port}/metrics", flush=True
    )
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
