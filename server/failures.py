"""What a caller learns of an error: its text, and trailers that say when to try again."""

import logging
import secrets

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from convlens.server.errors import OverloadedError, ServerError
from convlens.server.statistics import microseconds

logger = logging.getLogger(__name__)

RETRY_INFO_URL = f"type.googleapis.com/{error_details_pb2.RetryInfo.DESCRIPTOR.full_name}"


def public_message(error: Exception) -> str:
    """What a caller may read of an error: of our own faults an id, whose details the log has."""
    if isinstance(error, ServerError):
        return str(error)
    error_id = secrets.token_hex(8)
    logger.error("internal error %s", error_id, exc_info=error)
    return f"internal error; the server's log has the details under {error_id}"


def error_trailers(
    code: grpc.StatusCode, message: str, error: Exception, remaining_seconds: float | None
) -> tuple[tuple[str, str | bytes], ...]:
    """The trailers that say more of an error.

    Args:
        code: of the error.
        message: of the error.
        error: a retry of some makes sense: those get a google.rpc.RetryInfo.
        remaining_seconds: until the call's deadline; None where it has none. Its caller learns how
            much of the time that it had to wait for the error was the server's.
    """
    left: tuple[tuple[str, str | bytes], ...] = ()
    if remaining_seconds is not None:
        left = (("convlens-left-us", str(microseconds(remaining_seconds))),)
    if not isinstance(error, OverloadedError):
        return left
    seconds, milliseconds = divmod(max(1, round(error.retry_after_seconds * 1000)), 1000)
    delay = duration_pb2.Duration(seconds=seconds, nanos=milliseconds * 1_000_000)
    retry = error_details_pb2.RetryInfo(retry_delay=delay).SerializeToString()
    detail = any_pb2.Any(type_url=RETRY_INFO_URL, value=retry)
    status = status_pb2.Status(code=code.value[0], message=message, details=[detail])
    return (*left, ("grpc-status-details-bin", status.SerializeToString()))
