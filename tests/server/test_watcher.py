"""A folder is followed, with the file system's events or without."""

import asyncio
from pathlib import Path

import pytest

from convlens.server import watcher


async def test_a_folder_without_events_is_looked_at_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that is not there has none; nor has one where the system has no more watches."""
    monkeypatch.setattr(watcher, "RESCAN_MS", 10)
    looks = asyncio.Semaphore(0)

    async def refresh() -> None:
        looks.release()

    watching = asyncio.create_task(watcher.watch(tmp_path / "missing", refresh))
    async with asyncio.timeout(30):
        for _ in range(3):
            await looks.acquire()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"{tmp_path / 'missing'} is looked at every 0.01 s, without events: No path was found."
    ]
