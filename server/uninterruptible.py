"""Native work that nothing can interrupt: it does not keep a process that was told to stop."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from convlens.server.threads import Job

Result = TypeVar("Result")

THREAD_NAME = "uninterruptible"

logger = logging.getLogger(__name__)


async def run_uninterruptible(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a function in a thread of its own; one whose caller is cancelled goes on for nobody.

    The event loop and the interpreter wait for the threads of their executors when they end. This
    one they leave behind.
    """
    job = Job(function, arguments)
    threading.Thread(target=job.do, name=THREAD_NAME, daemon=True).start()
    result: Result = await job.outcome
    return result


def leave_it_behind() -> None:
    """End the process with 0 at once where such work goes on; else do nothing.

    Beside a native library that is still at work, the interpreter's own ending may crash.
    """
    if not any(thread.name == THREAD_NAME for thread in threading.enumerate()):
        return
    logger.warning("a model was still being loaded: its loading is abandoned")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(0)
