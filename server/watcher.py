"""Follows the models folder through the file system's events."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from watchfiles import awatch

from convlens.server.errors import ServerError

logger = logging.getLogger(__name__)

# Events that come within this time are taken together: a file that is being copied makes many.
DEBOUNCE_MS = 400

# Without any event the folder is looked at all the same: some file systems send none, and what
# changed before the first watch was set would be missed.
RESCAN_MS = 2000


async def watch(folder: Path, refresh: Callable[[], Awaitable[None]]) -> None:
    """Call `refresh` after each change below `folder`, and now and then, until cancelled.

    A change that cannot be followed, such as the folder itself being gone, is logged; the models
    that are served go on.
    """
    said = ""
    async for _ in _occasions(folder):
        try:
            await refresh()
            said = ""
        except ServerError as error:
            if str(error) != said:  # rather than again with each look
                logger.error("a change could not be followed: %s", error)
            said = str(error)
        except Exception:  # our own fault; the next change is followed all the same
            logger.exception("a change could not be followed")


async def _occasions(folder: Path) -> AsyncIterator[None]:
    """When to look at the folder: now and then, where the system has no events to give."""
    said = ""
    while True:
        try:
            async for _ in awatch(
                folder, debounce=DEBOUNCE_MS, step=50, rust_timeout=RESCAN_MS, yield_on_timeout=True
            ):
                yield
        except (OSError, RuntimeError) as error:
            if str(error) != said:
                said = str(error)
                seconds = RESCAN_MS / 1000
                logger.warning(
                    "%s is looked at every %g s, without events: %s", folder, seconds, said
                )
        await asyncio.sleep(RESCAN_MS / 1000)
        yield
