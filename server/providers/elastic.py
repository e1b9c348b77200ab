"""Runs that share the processors: a lone one is spread over all, many have one each.

Spreading answers one request sooner, and many later: the threads of a run wait for each other after
each operator, and for whatever else wants their processors. `bench/arrangements.py` measures it.
"""

import time
from collections.abc import Mapping, Sequence

from convlens.server.providers.runtime import Array, Node, Session
from convlens.server.run_count import RunCount

# To wake threads takes some 10 us for each operator that is spread: what one thread does in less
# time than this is left to it.
SPREAD_FROM_SECONDS = 0.002


class ElasticSession:
    """One model, open once for each width.

    A run gets its share of the processors as it begins, and keeps it. The runs of all models count.

    Args:
        sessions: by the threads that a run of theirs has.
        runs: that are under way.
    """

    def __init__(self, sessions: Mapping[int, Session], runs: RunCount) -> None:
        self._sessions = sessions
        self._runs = runs
        self._narrowest, self._widest = min(sessions), max(sessions)
        # What the latest run took, or would have taken on one thread.
        self._single_seconds = 0.0

    def get_inputs(self) -> Sequence[Node]:
        """In the graph's order."""
        return self._sessions[self._narrowest].get_inputs()

    def get_outputs(self) -> Sequence[Node]:
        """In the graph's order."""
        return self._sessions[self._narrowest].get_outputs()

    def run(self, output_names: None, input_feed: Mapping[str, Array]) -> Sequence[Array]:
        """All outputs, in the graph's order, for inputs by name."""
        count = self._runs.begin()
        try:
            width = self._width(count)
            start = time.perf_counter()
            outputs = self._sessions[width].run(output_names, input_feed)
            self._single_seconds = width * (time.perf_counter() - start)
            return outputs
        finally:
            self._runs.end()

    def _width(self, count: int) -> int:
        """The most threads that each of `count` runs can have."""
        if self._single_seconds < SPREAD_FROM_SECONDS:
            return self._narrowest
        share = self._widest // count
        return max((width for width in self._sessions if width <= share), default=self._narrowest)
