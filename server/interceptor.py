"""The edge of every RPC: it is counted, timed, and its errors become status codes."""

import asyncio
import inspect
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import Counter, Histogram

from convlens.server.access import GRANT, OPEN_SERVICES, Tokens
from convlens.server.errors import OverloadedError, ServerError, status_code
from convlens.server.metrics import Metrics

logger = logging.getLogger(__name__)


def public_message(error: Exception) -> str:
    """What a caller may read of an error: of our own faults an id, whose details the log has."""
    if isinstance(error, ServerError):
        return str(error)
    error_id = secrets.token_hex(8)
    logger.error("internal error %s", error_id, exc_info=error)
    return f"internal error; the server's log has the details under {error_id}"


def error_trailers(
    code: grpc.StatusCode, message: str, error: Exception
) -> tuple[tuple[str, bytes], ...]:
    """The trailers that say more of an error: google.rpc.RetryInfo where a retry makes sense."""
    if not isinstance(error, OverloadedError):
        return ()
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(max(1, round(error.retry_after_seconds * 1000)))
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code.value[0], message=message, details=[detail])
    return (("grpc-status-details-bin", status.SerializeToString()),)


class Edge(grpc.aio.ServerInterceptor):
    """Wraps every method of the server once.

    Args:
        metrics: of the server.
        tokens: that callers must have; None where anybody may call.
    """

    def __init__(self, metrics: Metrics, tokens: Tokens | None = None) -> None:
        self._metrics = metrics
        self._tokens = tokens
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
        _, service, name = method.split("/")
        meter = _Meter(self._metrics, kind, service, name)
        tokens = None if service in OPEN_SERVICES else self._tokens

        async def answer(request: Any, context: Any) -> Any:
            async with _edge(meter, context):
                _authenticate(tokens, context)
                return await behavior(request, context)

        async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
            async with _edge(meter, context):
                _authenticate(tokens, context)
                async for response in behavior(request, context):
                    yield response

        wrapper = generate if inspect.isasyncgenfunction(behavior) else answer
        make_handler = getattr(grpc, f"{kind}_rpc_method_handler")
        return make_handler(wrapper, handler.request_deserializer, handler.response_serializer)


class _Meter:
    """The metrics of one method, its labels filled in."""

    def __init__(self, metrics: Metrics, kind: str, service: str, method: str) -> None:
        labels = (kind, service, method)
        self.started: Counter = metrics.started.labels(*labels)
        self.handling_seconds: Histogram = metrics.handling_seconds.labels(*labels)
        self.handled = {
            code: metrics.handled.labels(*labels, code.name) for code in grpc.StatusCode
        }


@asynccontextmanager
async def _edge(meter: _Meter, context: Any) -> AsyncIterator[None]:
    start = time.monotonic()
    meter.started.inc()
    code = grpc.StatusCode.OK
    try:
        yield
    except asyncio.CancelledError:
        # grpc cancels the handler for both: the caller went away, or its deadline passed.
        late = (context.time_remaining() or 1.0) <= 0.0
        code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        raise
    except grpc.aio.AbortError:
        code = _aborted_code(context)
        raise
    except Exception as error:  # noqa: BLE001 - what is not in the table is INTERNAL
        code, message = status_code(error), public_message(error)
        await context.abort(code, message, error_trailers(code, message, error))
    finally:
        meter.handled[code].inc()
        meter.handling_seconds.observe(time.monotonic() - start)


def _authenticate(tokens: Tokens | None, context: Any) -> None:
    if tokens is not None:
        GRANT.set(tokens.grant(context.invocation_metadata()))


def _aborted_code(context: Any) -> grpc.StatusCode:
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next(status for status in grpc.StatusCode if status.value[0] == code)
