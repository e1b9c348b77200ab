"""Threads that work beside the event loop run behind it."""

import os
import sys

# Relative to the event loop's: a third of its weight, where both want the same processor.
NICENESS = 5


def yield_to_the_event_loop() -> None:
    """Run the calling thread, and those that it starts, behind the one that refuses calls.

    All of them alike: one that holds the interpreter's lock and is kept from running by another
    would keep the event loop waiting for both.
    """
    if sys.platform == "linux":  # where a thread has a niceness of its own
        os.nice(NICENESS)
