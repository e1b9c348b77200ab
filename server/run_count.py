"""How many runs are under way in this process, of whatever models."""

import threading


class RunCount:
    """Counts runs while they go on."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def begin(self) -> int:
        """Count one more; returns how many there are now."""
        with self._lock:
            self._count += 1
            return self._count

    def end(self) -> None:
        """One that was counted is over."""
        with self._lock:
            self._count -= 1
