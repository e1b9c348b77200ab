"""Commands that run models have them in huge pages, where the system gives them to who asks."""

from pathlib import Path

import pytest

from convlens.cli.huge_pages import SWITCH
from tests.support import running_server

pytestmark = pytest.mark.skipif(
    not SWITCH.exists() or "[madvise]" not in SWITCH.read_text(),
    reason=f"{SWITCH} does not leave it to processes",
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=4", "glibc.malloc.arena_max=4:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_a_server_asks_for_huge_pages_unless_it_was_told_otherwise(
    given: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", given)
    with running_server() as server:
        environment = Path(f"/proc/{server.process.pid}/environ").read_text()
    # glibc ends each tunable with a NUL as it reads them.
    assert f"GLIBC_TUNABLES={expected}:" in environment.replace("\0", ":")
