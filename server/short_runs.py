"""Which runs are so short that they go on the event loop."""

import math

Shapes = tuple[tuple[int, ...], ...]

# A run shorter than this costs the event loop less than two changes of thread, and bounds what
# others wait for it.
INLINE_SECONDS = 0.0005
# The shortest time that is known grows by this with each run, so that a slowdown is noticed.
RECOVERY = 1.05


class ShortRuns:
    """Learns from the runs with the shapes of the last one.

    In a thread most runs wait for the interpreter's lock too: the shortest tells what a run takes.
    One on the event loop is what it is, and where it was long the next one leaves.
    """

    def __init__(self) -> None:
        self._shapes: Shapes | None = None
        self._row_seconds = math.inf
        self._rows = 1

    @property
    def last_was_short(self) -> bool:
        """Whether the last run was, or would have been without waiting."""
        return self._rows * self._row_seconds < INLINE_SECONDS

    def admits(self, shapes: Shapes, rows: int) -> bool:
        """Whether a run may go on the event loop: one of the same shapes has just been short.

        Args:
            shapes: of a row of each input; a model's rows may be of any size.
            rows: of the batch.
        """
        short = self.last_was_short and rows * self._row_seconds < INLINE_SECONDS
        return short and shapes == self._shapes

    def learn(self, shapes: Shapes, rows: int, seconds: float, *, on_the_loop: bool) -> None:
        """Take a run into account; see `admits`."""
        row_seconds = seconds / rows
        was_long = on_the_loop and seconds >= INLINE_SECONDS
        if shapes == self._shapes and not was_long:
            row_seconds = min(row_seconds, RECOVERY * self._row_seconds)
        self._shapes, self._rows, self._row_seconds = shapes, rows, row_seconds

    def forget(self) -> None:
        """A run has failed: the next one goes to a thread."""
        self._row_seconds = math.inf
