"""Calls between a supervisor and a worker: JSON lines over a pair of connected sockets."""

import asyncio
import itertools
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from convlens.server import errors
from convlens.server.failures import public_message

Handler = Callable[..., Awaitable[Any]]

LINE_BYTES = 64 * 1024 * 1024  # a page of metrics is the longest


class Channel:
    """One end, in an event loop; either end calls the other's handlers by name.

    Args:
        reader: from the other end.
        writer: to the other end.
        handlers: what the other end may call, with arguments and values that JSON can carry.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handlers: Mapping[str, Handler],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handlers = handlers
        self._numbers = itertools.count()
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @classmethod
    async def open(cls, end: socket.socket, handlers: Mapping[str, Handler]) -> "Channel":
        """Make a channel of one of the two connected sockets, which it owns from now on."""
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=LINE_BYTES)
        return cls(reader, writer, handlers)

    async def run(self) -> None:
        """Answer calls and take answers until the other end is gone."""
        try:
            while (line := await self._reader.readline()).endswith(b"\n"):
                message = json.loads(line)
                if "call" in message:
                    task = asyncio.create_task(self._answer(message))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                else:
                    self._settle(message)
        except ConnectionError:
            pass  # as good as its end
        finally:
            self._is_closed = True
            for call in self._calls.values():
                if not call.done():
                    call.set_exception(errors.ProcessGoneError("the other process is gone"))
            self._writer.close()

    async def call(self, name: str, *arguments: Any) -> Any:
        """Have the other end do something, and wait for what comes of it.

        Raises:
            ProcessGoneError: the other end is gone, or goes before it has answered.
            ServerError: what its handler raised, as the same class with the same text.
        """
        if self._is_closed:
            raise errors.ProcessGoneError("the other process is gone")
        number = next(self._numbers)
        answer = self._calls[number] = asyncio.get_running_loop().create_future()
        self._send({"number": number, "call": name, "arguments": arguments})
        try:
            return await answer
        finally:
            del self._calls[number]

    async def _answer(self, message: Mapping[str, Any]) -> None:
        try:
            value = await self._handlers[message["call"]](*message["arguments"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller waits for an answer
            self._send({"number": message["number"], "error": _write_error(error)})
        else:
            self._send({"number": message["number"], "value": value})

    def _settle(self, message: Mapping[str, Any]) -> None:
        call = self._calls.get(message["number"])
        if call is None or call.done():
            return  # who asked does not wait any more
        if "error" in message:
            call.set_exception(_read_error(message["error"]))
        else:
            call.set_result(message["value"])

    def _send(self, message: Mapping[str, Any]) -> None:
        if not self._is_closed:
            self._writer.write(json.dumps(message).encode() + b"\n")


def _write_error(error: Exception) -> list[Any]:
    """Class, text and details of an error; of our own faults no more than their id."""
    if not isinstance(error, errors.ServerError):
        error = errors.ServerError(public_message(error))
    return [type(error).__name__, str(error), error.details()]


def _read_error(written: Any) -> errors.ServerError:
    """Undo `_write_error`; what cannot be read is an error too, and ends one call alone."""
    try:
        kind, text, details = written
        error: errors.ServerError = getattr(errors, kind)(text, **details)
    except (AttributeError, TypeError, ValueError):
        return errors.ServerError(f"an error that cannot be read: {written!r:.200}")
    return error
