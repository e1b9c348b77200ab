"""A histogram of latencies whose memory does not depend on how many there are."""

import math
from dataclasses import dataclass, field

# Each bucket is 0.5 % wider than the one before it, from 1 us to 2 hours: a percentile is at most
# 0.25 % away from the value that was recorded.
GROWTH = 1.005
LOG_GROWTH = math.log(GROWTH)
SHORTEST_SECONDS = 1e-6
BUCKETS = 4600


@dataclass
class Histogram:
    """Counts of values in seconds, in buckets of constant relative width, as HDR histograms are.

    Attributes:
        counts: by bucket.
        count: of all values.
        total_seconds: of all values.
        longest_seconds: the largest value, exact; 0 where there is none.
    """

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    count: int = 0
    total_seconds: float = 0.0
    longest_seconds: float = 0.0

    def record(self, seconds: float) -> None:
        """Count one value."""
        index = int(math.log(max(seconds / SHORTEST_SECONDS, 1.0)) / LOG_GROWTH)
        self.counts[min(index, BUCKETS - 1)] += 1
        self.count += 1
        self.total_seconds += seconds
        self.longest_seconds = max(self.longest_seconds, seconds)

    def add(self, other: "Histogram") -> None:
        """Count all that another one has counted."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.count += other.count
        self.total_seconds += other.total_seconds
        self.longest_seconds = max(self.longest_seconds, other.longest_seconds)

    @property
    def mean_seconds(self) -> float:
        """The exact mean; 0 where there is no value."""
        return self.total_seconds / self.count if self.count else 0.0

    def percentile_seconds(self, percent: float) -> float:
        """The value that so many percent of all do not exceed; 0 where there is none."""
        wanted = max(1, math.ceil(self.count * percent / 100))
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                middle: float = SHORTEST_SECONDS * GROWTH ** (index + 0.5)
                return min(middle, self.longest_seconds)
        return 0.0
