"""Pools are sized by what the process may use."""

import os
from pathlib import Path

import pytest

from convlens.server.processors import processor_count

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpu_max", "count"),
    [
        ("max 100000", ALL),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("150000 100000", min(2, ALL)),
        ("6400000 100000", ALL),
    ],
)
def test_the_quota_of_cgroup_2_caps_the_count(tmp_path: Path, cpu_max: str, count: int) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max + "\n")
    assert processor_count(tmp_path) == count


@pytest.mark.parametrize(("quota", "count"), [("-1", ALL), ("100000", 1)])
def test_the_quota_of_cgroup_1_caps_the_count(tmp_path: Path, quota: str, count: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert processor_count(tmp_path) == count


def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    assert processor_count(tmp_path / "nothing") == ALL
