"""What the server writes to stderr: lines for people, or one JSON object a line."""

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from io import FileIO, TextIOWrapper
from typing import Any, Literal, TextIO

LogFormat = Literal["text", "json"]

STDERR = 2  # the file descriptor

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

ACCESS = logging.getLogger("convlens.access")


def configure_logs(log_format: LogFormat) -> None:
    """Send the logs of this process to stderr."""
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # It counts the changes of each turn, whether or not they are any of ours.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes each record at once, and loses it where that fails: a full disk stops no server.

    Nothing waits in a buffer, which Python would fail to empty when it exits.
    """

    def __init__(self) -> None:
        raw = FileIO(STDERR, "w", closefd=False)
        super().__init__(
            TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Report what is wrong with a record, but not that nothing can be written."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, then what else is known as key=value.

    Callers choose some of the text: no control character of theirs begins a line or moves the
    cursor of a terminal, and the lines of a traceback are indented.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line without a traceback."""
        pairs = "".join(f" {name}={value}" for name, value in _fields(record).items())
        return _escaped(super().formatMessage(record) + pairs)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """The traceback."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {_escaped(line)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and what else is known."""

    def format(self, record: logging.LogRecord) -> str:
        """The whole line; a traceback is one of its values."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(entry, ensure_ascii=False, default=str)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return fields
