"""gRPC over HTTP/2 on asyncio: the server's port, and nothing of what is asked there.

grpcio's own server spends 0.3 ms of processor time on a call before and after its handler; where a
small network answers in a tenth of that, it is most of what a server costs. `bench/workers.py`
measures both. What a handler sees is what grpc's generated servicers expect.

A connection reads frames and knows its calls; a call reads messages and runs its handler.
"""

from convlens.server.http2.call import Call
from convlens.server.http2.limits import Limits
from convlens.server.http2.method import AbortError, Method
from convlens.server.http2.server import GrpcServer

__all__ = ["AbortError", "Call", "GrpcServer", "Limits", "Method"]
