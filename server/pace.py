"""How long a request will take while others are in flight."""

from convlens.server.batch_time import BatchTime

# A request is expected within this many mean deviations of the prediction: an answer that comes
# just after its deadline cost as much as one that came in time.
DEVIATIONS = 2.0
# Each answer replaces this share of what is known of the deviation.
GAIN = 1 / 8


class Pace:
    """Predicts from the answers so far, and how far they were from what had been predicted.

    The time is a line over the rows in flight, wherever these queue: before decoding, before
    inference, or for a processor that other models use too.

    Source of the margin: RFC 6298, which sets a retransmission timer likewise.
    """

    def __init__(self) -> None:
        self._line = BatchTime()
        self._deviation_seconds = 0.0

    def expect(self, in_flight: int) -> float:
        """The seconds that the last of so many rows takes, as the answers so far tell."""
        return self._line.predict(in_flight)

    def predict(self, in_flight: int) -> float:
        """The seconds within which the last of so many rows will most likely be answered."""
        return self.expect(in_flight) + DEVIATIONS * self._deviation_seconds

    def learn(self, in_flight: int, seconds: float, expected: float) -> None:
        """Note how long a request took that was the last of so many rows in flight.

        Args:
            in_flight: when it began.
            seconds: that it took.
            expected: what `expect` said when it began. What was learnt since would hide how far
                off predictions are while the machine's speed changes.
        """
        if expected or not self.expect(in_flight):
            # Of the first answer; what had begun before it tells nothing of predictions.
            off = abs(seconds - expected) if expected else seconds / 2
            self._deviation_seconds += GAIN * (off - self._deviation_seconds)
        self._line.learn(in_flight, seconds)

    def learn_at_least(self, in_flight: int, seconds: float, expected: float) -> None:
        """Note that a request was given up after so long.

        Without these, a server that answers nobody in time would learn nothing, and go on so.
        """
        if seconds > self.expect(in_flight):
            self.learn(in_flight, seconds, expected)
