"""The budget of the fuzz tests.

In the suite each draws the same few examples every time. `CONVLENS_FUZZ=20` draws twenty times as
many, other ones at every run; `make fuzz SECONDS=600` goes on so for that long.
"""

import os

from hypothesis import HealthCheck, settings

_FACTOR = int(os.environ.get("CONVLENS_FUZZ", "1"))


def fuzzed(examples: int) -> settings:
    """The settings of a fuzz test.

    Args:
        examples: how many it draws in the suite.
    """
    return settings(
        max_examples=examples * _FACTOR,
        derandomize=_FACTOR == 1,
        deadline=None,
        database=None,
        print_blob=_FACTOR > 1,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
