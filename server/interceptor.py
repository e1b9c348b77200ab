"""The edge of every RPC: who calls is asked, it is counted, timed and logged, errors get a code."""

import asyncio
import inspect
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from convlens.server.access import GRANT, OPEN_SERVICES, Tokens
from convlens.server.caller import CALLER, Caller, Priority, host_of, read_priority
from convlens.server.errors import status_code
from convlens.server.failures import error_trailers, public_message
from convlens.server.logs import ACCESS
from convlens.server.malformed import all_checked, checked, tolerant
from convlens.server.metrics import Metrics


class Edge(grpc.aio.ServerInterceptor):
    """Wraps every method of the server once.

    Args:
        metrics: of the server.
        tokens: that callers must have; None where anybody may call.
        access_log: the share of calls that are logged.
        clients_apart: whether clients have limits of their own.
    """

    def __init__(
        self, metrics: Metrics, tokens: Tokens | None, access_log: float, *, clients_apart: bool
    ) -> None:
        self._clients_apart = clients_apart
        self._metrics = metrics
        self._tokens = tokens
        self._access_log = access_log
        self._handlers: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Give grpc the wrapped handler; None, for a method that does not exist, stays None."""
        method = handler_call_details.method
        if method not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None  # not kept: any caller can make up names
            self._handlers[method] = self._wrap(method, handler)
        return self._handlers[method]

    def _wrap(self, method: str, handler: Any) -> Any:
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
            async with edge.call(context):
                return await behavior(check(request), context)

        async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
            async with edge.call(context):
                async for response in behavior(check(request), context):
                    yield response

        wrapper = generate if inspect.isasyncgenfunction(behavior) else answer
        make_handler = getattr(grpc, f"{kind}_rpc_method_handler")
        return make_handler(
            wrapper, tolerant(handler.request_deserializer), handler.response_serializer
        )


class _MethodEdge:
    """The edge of one method, with the labels of its metrics filled in."""

    def __init__(
        self,
        metrics: Metrics,
        kind: str,
        method: str,
        tokens: Tokens | None,
        access_log: float,
        *,
        clients_apart: bool,
    ) -> None:
        self._clients_apart = clients_apart
        _, service, name = method.split("/")
        labels = (kind, service, name)
        self._method = method
        self._tokens = tokens
        self._access_log = access_log
        self._started = metrics.started.labels(*labels)
        self._handling_seconds = metrics.handling_seconds.labels(*labels)
        self._handled = {
            code: metrics.handled.labels(*labels, code.name) for code in grpc.StatusCode
        }

    @asynccontextmanager
    async def call(self, context: Any) -> AsyncIterator[None]:
        """Surround the answering of one call."""
        start = time.monotonic()
        self._started.inc()
        code = grpc.StatusCode.OK
        try:
            self._identify(context)
            yield
        except (asyncio.CancelledError, GeneratorExit):
            # grpc cancels the handler for both: the caller went away, or its deadline passed.
            late = (context.time_remaining() or 1.0) <= 0.0
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            code = _aborted_code(context)
            raise
        except Exception as error:  # noqa: BLE001 - what is not in the table is INTERNAL
            code, message = status_code(error), public_message(error)
            trailers = error_trailers(code, message, error, context.time_remaining())
            await context.abort(code, message, trailers)
        finally:
            seconds = time.monotonic() - start
            self._handled[code].inc()
            self._handling_seconds.observe(seconds)
            if self._access_log and random.random() < self._access_log:  # noqa: S311
                self._log(context, code, seconds)

    def _identify(self, context: Any) -> None:
        """Note who calls, what they may do, and how urgent it is."""
        metadata = context.invocation_metadata() or ()
        client = ""
        if self._tokens is not None:
            grant = self._tokens.grant(metadata)
            GRANT.set(grant)
            client = grant.sha256
        elif self._clients_apart:
            client = host_of(context.peer())
        priority = read_priority(metadata)
        if client or priority is not Priority.NORMAL:
            CALLER.set(Caller(client, priority))

    def _log(self, context: Any, code: grpc.StatusCode, seconds: float) -> None:
        """Log the call; the caller's own id of the request joins the line to the caller's logs."""
        metadata = dict(context.invocation_metadata() or ())
        fields = {
            "method": self._method,
            "code": code.name,
            "milliseconds": round(seconds * 1e3, 3),
            "peer": context.peer(),
            "request_id": metadata.get("x-request-id", ""),
        }
        ACCESS.info("call", extra={"fields": fields})


def _aborted_code(context: Any) -> grpc.StatusCode:
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next(status for status in grpc.StatusCode if status.value[0] == code)
