"""How long a batch of so many rows takes: learnt from the runs, used to keep deadlines."""

import math

# Of what is known, each run replaces a twentieth: a machine that slows down is followed within
# some twenty runs.
FORGETTING = 0.95
# A run that was interrupted counts as one that took this many times what was expected.
OUTLIER = 2.0
# As long as the sizes hardly differ, the line's slope stays as it was: relative to the mean size,
# the deviation at which the runs count for as much as the former slope.
SLOPE_TRUST = 0.05


class BatchTime:
    """Fits seconds = per_row * rows + per_run through the runs, the latest ones weighing most.

    Before the first run nothing is known, and every prediction is 0. Neither term is ever negative.

    Source: exponentially weighted least squares of a line, written with running means.
    """

    def __init__(self) -> None:
        self._weight = 0.0
        self._rows = 0.0  # weighted mean
        self._seconds = 0.0  # weighted mean
        self._variance = 0.0  # of the rows
        self._covariance = 0.0  # of rows and seconds
        self._per_row = 0.0

    def learn(self, rows: int, seconds: float) -> None:
        """Take a run into account.

        Args:
            rows: of the batch.
            seconds: that its run took.
        """
        if self._weight:
            seconds = min(seconds, OUTLIER * self.predict(rows) or seconds)
        self._weight = FORGETTING * self._weight + 1.0
        gain = 1.0 / self._weight
        rows_off, seconds_off = rows - self._rows, seconds - self._seconds
        self._rows += gain * rows_off
        self._seconds += gain * seconds_off
        keep = 1.0 - gain
        self._variance = keep * (self._variance + gain * rows_off**2)
        self._covariance = keep * (self._covariance + gain * rows_off * seconds_off)
        proportional = self._seconds / self._rows
        former = self._per_row if keep else proportional
        trust = (SLOPE_TRUST * self._rows) ** 2
        slope = (self._covariance + trust * former) / (self._variance + trust)
        self._per_row = min(max(slope, 0.0), proportional)

    def predict(self, rows: int) -> float:
        """Seconds that one run of `rows` will take."""
        if not rows:
            return 0.0
        return max(0.0, self._seconds + self._per_row * (rows - self._rows))

    def admits(self, rows: int, more: int, spare_seconds: float) -> bool:
        """Whether a batch may grow: not where that alone makes it miss its tightest deadline.

        Args:
            rows: in the batch.
            more: that may join it.
            spare_seconds: until the tightest deadline of those in it; infinite for none.
        """
        if spare_seconds == math.inf:
            return True
        return not self.predict(rows) <= spare_seconds < self.predict(rows + more)
