"""How memory is given back, and what is kept for good."""

import ctypes
import gc
import sys

HEAPS = 2
_M_ARENA_MAX = -8  # of malloc.h


def share_heaps() -> None:
    """Have all threads allocate from few heaps; called before there are threads.

    glibc gives each thread one of its own, up to eight a processor, and never takes back what lies
    between two things that are still used: each model that came and went left 150 KB.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_ARENA_MAX, HEAPS)


def keep_imports() -> None:
    """Have the garbage collector pass over all that there is; called before models are loaded.

    What was imported never becomes garbage, and looking through it for some halts the event loop
    for 50 ms each time.
    """
    gc.collect()
    gc.freeze()


def give_back_memory() -> None:
    """Return what was freed to the operating system.

    A model and its batcher refer to each other: they are freed by the collector. glibc keeps freed
    memory for itself, a quarter to a half of a model's, unless it is told not to.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
