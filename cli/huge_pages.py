"""Memory in huge pages, for commands that run models."""

import os
import sys
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def start_again_with_huge_pages() -> None:
    """Begin this very command anew, its allocator asking for huge pages, where it did not yet.

    A network goes through more memory than the processor knows the addresses of: it looks them up
    all the time, and less often where a page has 2 MiB instead of 4 KiB. Most systems give such
    pages to those who ask ("madvise"), and glibc asks if its environment says so as it begins.

    Source: the GNU C Library manual, "Memory Allocation Tunables".
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if TUNABLE in tunables or not _must_be_asked_for():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, (tunables, f"{TUNABLE}=1")))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _must_be_asked_for() -> bool:
    try:
        return "[madvise]" in SWITCH.read_text()
    except OSError:  # not Linux, or one that does not say
        return False
