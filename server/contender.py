"""Ways to run a model that compete for being the fastest."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from convlens.server.agreement import Agreement
from convlens.server.plan import Plan
from convlens.server.providers import ModelSource
from convlens.server.speed import RunTime
from convlens.server.tuned_file import Goal, Tuned, Twin, tuned_key

FINALISTS = 4
# Two are as fast as each other; of two such sizes the smaller one answers sooner.
AS_FAST = 0.97
# What falls further behind after the first look is not measured again.
PROMISING = 0.7


@dataclass
class Contender:
    """One way to run a model.

    Attributes:
        source: the file.
        plan: how it is run.
        precision: of the weights, or of the arithmetic where that is less.
        agreement: that it reached.
        runs: what a run takes, by batch size, one a round.
        picture_seconds: of a picture that is decoded and then run, likewise; none where the model
            takes no pictures.
    """

    source: ModelSource
    plan: Plan
    precision: str
    agreement: Agreement
    runs: dict[int, list[RunTime]]
    picture_seconds: dict[int, list[float]] = field(default_factory=dict)

    def images_per_second(self, batch_size: int) -> float:
        """Of all instances together, in batches of that size."""
        return self.plan.instances * batch_size / self.run_seconds(batch_size)

    def run_seconds(self, batch_size: int) -> float:
        """Of one batch, while the other instances run too."""
        return median(run.seconds for run in self.runs[batch_size])

    def processor_seconds(self, batch_size: int) -> float:
        """Of all processors together, for one image, in batches of that size."""
        return median(run.processor_seconds for run in self.runs[batch_size]) / batch_size

    def pictures_per_second(self, batch_size: int) -> float | None:
        """The same from their bytes on; None where that was not measured."""
        seconds = self.picture_seconds.get(batch_size)
        return 1 / median(seconds) if seconds else None

    def served_per_second(self, batch_size: int) -> float:
        """The nearest to what a server will answer that was measured."""
        return self.pictures_per_second(batch_size) or self.images_per_second(batch_size)

    @property
    def best_size(self) -> int:
        """The smallest batch that is as fast as any."""
        return min(self._sizes(AS_FAST))

    @property
    def soonest_seconds(self) -> float:
        """Until the smallest batch is answered."""
        return self.run_seconds(min(self.runs))

    @property
    def promising_sizes(self) -> set[int]:
        """The sizes that may turn out to be the best, and the smallest one for its latency."""
        return {min(self.runs), *self._sizes(PROMISING)}

    def _sizes(self, share: float) -> list[int]:
        """Those that come near the fastest one, of those that were measured most often."""
        rounds = max(map(len, self.runs.values()))
        rates = {
            size: self.served_per_second(size)
            for size, runs in self.runs.items()
            if len(runs) == rounds
        }
        return [size for size in rates if rates[size] >= share * max(rates.values())]


def best(contenders: Sequence[Contender]) -> list[Contender]:
    """The fastest few, and whatever answers a single image soonest."""
    fastest = sorted(contenders, key=lambda one: -one.served_per_second(one.best_size))
    soonest = sorted(contenders, key=lambda one: one.soonest_seconds)
    return list({id(one): one for one in (*fastest[: FINALISTS - 1], *soonest[:2])}.values())


def fastest(entries: Sequence[Contender]) -> Contender:
    """Of those that answer pictures as fast as any, the one that leaves the processors the most.

    Where decoding takes nearly all of the time, what runs take is lost in its noise; and a server
    has more to do than was measured.
    """
    served = {id(one): one.served_per_second(one.best_size) for one in entries}
    as_fast = [one for one in entries if served[id(one)] >= AS_FAST * max(served.values())]
    return min(as_fast, key=lambda one: one.processor_seconds(one.best_size))


def decide(entries: Sequence[Contender], source: ModelSource, processors: int) -> Tuned:
    """Findings about a file: of all ways that may answer for it the fastest, and the soonest.

    Args:
        entries: ways to run that file, or one of the same network in fewer bits.
        source: the file.
        processors: that they were measured on.
    """
    chosen: dict[Goal, Contender] = {
        "throughput": fastest(entries),
        "latency": min(entries, key=lambda one: one.soonest_seconds),
    }
    return Tuned(
        key=tuned_key(source.sha256, processors),
        plans={
            goal: replace(one.plan, max_batch_size=one.best_size) for goal, one in chosen.items()
        },
        twins={
            goal: Twin.of(one.source, source.path.parent)
            for goal, one in chosen.items()
            if one.source is not source
        },
    )
