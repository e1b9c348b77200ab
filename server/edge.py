"""The edge of every RPC: who calls is asked, it is counted, timed and logged, errors get a code."""

import asyncio
import inspect
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from convlens.server.access import GRANT, OPEN_SERVICES, Tokens
from convlens.server.caller import CALLER, Caller, Priority, host_of, read_priority
from convlens.server.errors import status_code
from convlens.server.failures import error_trailers, public_message
from convlens.server.http2 import AbortError, Method
from convlens.server.logs import ACCESS
from convlens.server.malformed import all_checked, checked, tolerant
from convlens.server.metrics import CallMetrics


class Edge:
    """The methods of all services that are added to it, each wrapped once.

    Generated code takes it for the server.

    Args:
        metrics: of RPCs.
        tokens: that callers must have; None where anybody may call.
        access_log: the share of calls that are logged.
        clients_apart: whether clients have limits of their own.
    """

    def __init__(
        self, metrics: CallMetrics, tokens: Tokens | None, access_log: float, *, clients_apart: bool
    ) -> None:
        self._clients_apart = clients_apart
        self._metrics = metrics
        self._tokens = tokens
        self._access_log = access_log
        self._services: list[grpc.GenericRpcHandler] = []
        self._methods: dict[str, Method] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take a service, as grpc's generated code hands it to a server."""
        self._services.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """The same service again, in the other form that generated code hands over: not needed."""

    def find(self, path: str) -> Method | None:
        """The wrapped method of a path; None for one that does not exist."""
        if path not in self._methods:
            found = (service.service(_Details(path)) for service in self._services)
            handler = next(filter(None, found), None)
            if handler is None:
                return None  # not kept: any caller can make up names
            self._methods[path] = self._wrap(path, handler)
        return self._methods[path]

    def _wrap(self, method: str, handler: Any) -> Method:
        kind = f"{'stream' if handler.request_streaming else 'unary'}_" + (
            "stream" if handler.response_streaming else "unary"
        )
        behavior = getattr(handler, kind)
        service = method.split("/")[1]
        tokens = None if service in OPEN_SERVICES else self._tokens
        edge = _MethodEdge(
            self._metrics, kind, method, tokens, self._access_log, clients_apart=self._clients_apart
        )
        check = all_checked if handler.request_streaming else checked

        async def answer(request: Any, context: Any) -> Any:
            call = edge.begin(context)
            try:
                call.identify()
                return await behavior(check(request), context)
            except BaseException as error:
                await call.fail(error)
                raise
            finally:
                call.end()

        async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
            call = edge.begin(context)
            try:
                call.identify()
                async for response in behavior(check(request), context):
                    yield response
            except BaseException as error:
                await call.fail(error)
                raise
            finally:
                call.end()

        generates = inspect.isasyncgenfunction(behavior)
        return Method(
            behavior=generate if generates else answer,
            read=tolerant(handler.request_deserializer),
            write=handler.response_serializer,
            streams_requests=handler.request_streaming,
            generates=generates,
            responds=not handler.response_streaming,
        )


@dataclass
class _Details:
    """What generated code looks at to find a method."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class _MethodEdge:
    """The edge of one method, with the labels of its metrics filled in."""

    def __init__(
        self,
        metrics: CallMetrics,
        kind: str,
        method: str,
        tokens: Tokens | None,
        access_log: float,
        *,
        clients_apart: bool,
    ) -> None:
        _, service, name = method.split("/")
        labels = (kind, service, name)
        self.method = method
        self.tokens = tokens
        self.access_log = access_log
        self.clients_apart = clients_apart
        self.started = metrics.started.labels(*labels)
        self.handling_seconds = metrics.handling_seconds.labels(*labels)
        self.handled = {
            code: metrics.handled.labels(*labels, code.name) for code in grpc.StatusCode
        }

    def begin(self, context: Any) -> "_Call":
        """A call has come in."""
        self.started.inc()
        return _Call(self, context)


class _Call:
    """One call, from its coming in to its end."""

    __slots__ = ("_code", "_context", "_edge", "_start")

    def __init__(self, edge: _MethodEdge, context: Any) -> None:
        self._edge = edge
        self._context = context
        self._start = time.monotonic()
        self._code = grpc.StatusCode.OK

    def identify(self) -> None:
        """Note who calls, what they may do, and how urgent it is."""
        metadata = self._context.invocation_metadata() or ()
        client = ""
        if self._edge.tokens is not None:
            grant = self._edge.tokens.grant(metadata)
            GRANT.set(grant)
            client = grant.sha256
        elif self._edge.clients_apart:
            client = host_of(self._context.peer())
        priority = read_priority(metadata)
        if client or priority is not Priority.NORMAL:
            CALLER.set(Caller(client, priority))

    async def fail(self, error: BaseException) -> None:
        """Note the code of an error; one of the work is told to the caller, and ends the call."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            # The handler is cancelled for both: the caller went away, or its deadline passed.
            remaining_seconds = self._context.time_remaining()
            late = remaining_seconds is not None and remaining_seconds <= 0.0
            self._code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        elif isinstance(error, AbortError):
            self._code = error.code
        elif isinstance(error, Exception):  # what is not in the table is INTERNAL
            self._code, message = status_code(error), public_message(error)
            trailers = error_trailers(self._code, message, error, self._context.time_remaining())
            await self._context.abort(self._code, message, trailers)

    def end(self) -> None:
        """Count the call, and log it where it is one of those to be logged."""
        seconds = time.monotonic() - self._start
        self._edge.handled[self._code].inc()
        self._edge.handling_seconds.observe(seconds)
        if self._edge.access_log and random.random() < self._edge.access_log:  # noqa: S311
            self._log(seconds)

    def _log(self, seconds: float) -> None:
        """Log the call; the caller's own id of the request joins the line to the caller's logs."""
        metadata = dict(self._context.invocation_metadata() or ())
        fields = {
            "method": self._edge.method,
            "code": self._code.name,
            "milliseconds": round(seconds * 1e3, 3),
            "peer": self._context.peer(),
            "request_id": metadata.get("x-request-id", ""),
        }
        ACCESS.info("call", extra={"fields": fields})
