"""How many processors this process may use."""

import math
import os
from pathlib import Path


def processor_count(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The processors that this process may use: its affinity, capped by its cgroup's quota.

    A container with a quota of two processors on a host of 64 gets two: pools sized from the host
    would fight over them.

    Args:
        cgroup: the root of the cgroup file system (version 2, or version 1's `cpu` controller).
    """
    count = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return max(1, min(count, math.ceil(quota))) if quota else count


def _quota(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return int(quota) / int(period) if quota.isdigit() and int(period) > 0 else None
