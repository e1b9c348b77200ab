"""Which way to run a model is the fastest on this machine, of those that give its answers."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from statistics import median

import numpy as np

from convlens.analysis import analyze
from convlens.analysis.errors import AnalysisError
from convlens.server.agreement import Trial, compare, pictures_trial, seeded_trial
from convlens.server.contender import Contender, best, decide, fastest
from convlens.server.errors import ModelLoadError, TuningError
from convlens.server.findings import Approximation, Refusal, Row, Tuning
from convlens.server.model import Model, load_model
from convlens.server.peak import measure_peak
from convlens.server.plan import ELASTIC_PROVIDERS, PROCESSOR_PROVIDERS, Machine, Plan
from convlens.server.providers import PROVIDERS, RUNTIME_ERRORS, ModelSource
from convlens.server.speed import measure_run, measure_serving
from convlens.server.tensor import Array
from convlens.server.tuned_file import Tuned, tuned_path

BATCH_SIZES = (1, 2, 4, 8, 16)
MAX_ROUNDS = 7

FAILURES: tuple[type[Exception], ...] = (ModelLoadError, *RUNTIME_ERRORS)

OnProgress = Callable[[float, str], None]


class Tuner:
    """Measures a model's files within a time budget.

    Every plan is first looked at alone; then the best are open together and take turns, so that a
    machine that slows down slows all of them down. The medians of the turns decide.

    Args:
        files: the fp32 file first, then files of the same network in fewer bits.
        processors: that runs are spread over.
        machine: what all models share.
        budget_seconds: for all of it; what was begun is finished.
        progress: is told the share that is done and what is being done.
    """

    def __init__(
        self,
        files: Sequence[Path],
        processors: int,
        machine: Machine,
        budget_seconds: float,
        progress: OnProgress,
    ) -> None:
        self._sources = [ModelSource.read(path) for path in files]
        self._processors = processors
        self._machine = machine
        self._start = time.monotonic()
        self._budget_seconds = budget_seconds
        self._progress = progress
        self._refusals: list[Refusal] = []

    def tune(self, pictures: Path | None) -> Tuning:
        """Measure, decide, and write what was found beside each file.

        Args:
            pictures: a folder of pictures to compare answers on; None for seeded noise.

        Raises:
            ModelLoadError: the fp32 file cannot be loaded.
            InvalidPictureError: the folder has none, or one that is broken.
            TuningError: the model cannot be tuned, or the findings cannot be written.
        """
        self._check_folders()
        self._say("loading in fp32 on the CPU")
        reference = self._load(self._sources[0], Plan(threads=self._processors))
        if len(reference.signature.inputs) != 1 or not reference.signature.batched:
            raise TuningError("only models with one input and a batch axis can be tuned")
        trial = pictures_trial(reference, pictures) if pictures else seeded_trial(reference)
        try:
            expected = _run_all(reference, trial.inputs)
        except RUNTIME_ERRORS as error:
            raise TuningError(f"it cannot run {trial.source}: {error}") from error
        macs = _macs(self._sources[0].path)
        peaks = self._peaks()
        contenders = list(self._look_at_all(reference, trial, expected))
        finalists = self._compete(contenders, trial)
        rows = tuple(row for entry in contenders for row in _rows(entry, macs, peaks))
        return Tuning(
            rows=tuple(sorted(rows, key=_fastest_first)),
            refusals=tuple(self._refusals),
            trial=trial.source,
            peaks=peaks,
            tuned=dict(self._write(finalists)),
            approximation=self._approximation(fastest(finalists), trial, reference, expected),
        )

    def _check_folders(self) -> None:
        """What is found goes beside the files: better to know at once that it cannot."""
        for folder in {source.path.absolute().parent for source in self._sources}:
            if not os.access(folder, os.W_OK):
                raise TuningError(f"{folder} cannot be written, where the findings belong")

    def _peaks(self) -> dict[str, float]:
        peaks: dict[str, float] = {}
        for provider, precision in dict.fromkeys(
            (plan.provider, plan.precision) for plan in self._plans()
        ):
            plan = Plan(provider, precision, self._processors)
            for int8 in (
                (False, True) if precision == "fp32" and len(self._sources) > 1 else (False,)
            ):
                name = "int8" if int8 else precision
                self._say(f"the machine's peak with {provider} in {name}")
                try:
                    peaks[name] = max(measure_peak(plan, int8=int8), peaks.get(name, 0.0))
                except ModelLoadError:  # is reported where the model itself is tried
                    continue
        return peaks

    def _plans(self) -> Iterator[Plan]:
        """Every provider that works, in every precision, and the processors shared in every way.

        What the server does untuned comes first, then what promises most: time may be short.
        """
        counts = [n for n in range(self._processors, 0, -1) if self._processors % n == 0]
        providers = [it for it in PROVIDERS.values() if it.why_not() is None]
        ways = [(provider.name, name) for provider in providers for name in provider.precisions]
        for provider, precision in [ways[0], *sorted(ways[1:], key=lambda way: way[1] == "fp32")]:
            # Runs on a GPU wait for the same device: one thread each.
            for instances in counts if provider in PROCESSOR_PROVIDERS else (1, 2):
                threads = max(1, self._processors // instances)
                elastic = provider in ELASTIC_PROVIDERS and instances > threads == 1
                yield Plan(provider, precision, threads, instances, BATCH_SIZES[-1], elastic)

    def _ways(self) -> list[tuple[ModelSource, Plan]]:
        """What the server does untuned, files in fewer bits, then the rest: time may be short."""
        own, *others = [[(source, plan) for plan in self._plans()] for source in self._sources]
        return [own[0], *chain.from_iterable(others), *own[1:]]

    def _look_at_all(
        self, reference: Model, trial: Trial, expected: Sequence[Array]
    ) -> Iterator[Contender]:
        for number, (source, plan) in enumerate(self._ways()):
            if number > 0 and self._share() > 0.5:  # the rest belongs to the finals
                self._refuse(source, plan, "there was no time: give a larger --budget")
                continue
            self._say(f"{source.path.name}: {plan.provider} {plan.precision}")
            try:
                model = self._load(source, plan)
                check_twin(model, reference)
                agreement = compare(_run_all(model, trial.inputs), expected)
            except FAILURES as error:
                self._refuse(source, plan, str(error))
                continue
            if not agreement.holds(random_weights=model.card.weights_origin == "random"):
                reason = (
                    f"it agrees with fp32 on {agreement.top1:.1%} of the inputs and is up to "
                    f"{agreement.deviation:.2g} of the spread away"
                )
                self._refuse(source, plan, reason)
                continue
            entry = Contender(source, plan, model.precision, agreement, {})
            for size in self._batch_sizes(model):
                self._measure(entry, model, trial, size)
                too_long = entry.run_seconds(size) > self._budget_seconds / 100
                if too_long or size not in entry.promising_sizes:
                    break  # larger ones would eat the budget up, or gain no more
            yield entry

    def _batch_sizes(self, model: Model) -> Iterable[int]:
        fixed = model.signature.fixed_batch
        return (fixed,) if fixed is not None else BATCH_SIZES

    def _compete(self, contenders: Sequence[Contender], trial: Trial) -> list[Contender]:
        """Let the best of each file take turns until the time is over; returns them."""
        finalists = [
            entry
            for source in self._sources
            for entry in best([one for one in contenders if one.source is source])
        ]
        turns = [
            (entry, entry.promising_sizes, self._load(entry.source, entry.plan))
            for entry in finalists
        ]
        for number in range(1, MAX_ROUNDS):
            for entry, sizes, model in turns:
                if number > 1 and self._share() > 1:  # one turn each, or nothing is compared
                    return finalists
                self._say(f"round {number}: {entry.plan.provider} {entry.plan.precision}")
                for size in sizes:
                    self._measure(entry, model, trial, size)
        return finalists

    def _measure(self, entry: Contender, model: Model, trial: Trial, size: int) -> None:
        """Time one round of a way to run, in batches of a size."""
        entry.runs.setdefault(size, []).append(measure_run(model, trial.inputs, size))
        if trial.pictures:
            seconds = measure_serving(model, trial.pictures, size, self._processors)
            entry.picture_seconds.setdefault(size, []).append(seconds)

    def _approximation(
        self, entry: Contender, trial: Trial, reference: Model, expected: Sequence[Array]
    ) -> Approximation | None:
        """What decoding approximately would change; the two take turns."""
        if trial.approximate is None:
            return None
        self._say("approximate decoding")
        agreement = compare(_run_all(reference, trial.approximate), expected)
        model, size = self._load(entry.source, entry.plan), entry.best_size
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(MAX_ROUNDS):
            for approximate, measured in seconds.items():
                measured.append(
                    measure_serving(
                        model, trial.pictures, size, self._processors, approximate=approximate
                    )
                )
        return Approximation(agreement, 1 / median(seconds[False]), 1 / median(seconds[True]))

    def _write(self, finalists: Sequence[Contender]) -> Iterator[tuple[Path, Tuned]]:
        for source in self._sources:
            # The others answer for the first, too: nobody has to name them to be served by them.
            own = [one for one in finalists if one.source is source or source is self._sources[0]]
            if not own:
                continue
            tuned = decide(own, source, self._processors)
            path = tuned_path(source.path)
            try:
                tuned.write(path)
            except OSError as error:
                raise TuningError(f"{path}: {error.strerror}") from error
            yield path, tuned

    def _load(self, source: ModelSource, plan: Plan) -> Model:
        return load_model(source.path.stem, "1", source, plan, self._machine)

    def _refuse(self, source: ModelSource, plan: Plan, reason: str) -> None:
        self._refusals.append(Refusal(source.path, plan, reason))

    def _share(self) -> float:
        return (time.monotonic() - self._start) / self._budget_seconds

    def _say(self, text: str) -> None:
        self._progress(min(1.0, self._share()), text)


def check_twin(model: Model, reference: Model) -> None:
    """Compare what clients and pictures meet: the one is to answer in the other's place.

    Raises:
        ModelLoadError: they differ.
    """
    if model.signature != reference.signature:
        raise ModelLoadError("its inputs and outputs are not those of the first file")
    if (model.card.preprocessing, model.card.labels) != (
        reference.card.preprocessing,
        reference.card.labels,
    ):
        raise ModelLoadError("its preprocessing or its labels are not those of the first file")


def _run_all(model: Model, inputs: Array) -> list[Array]:
    runs = [model.run((inputs[start : start + 8],)) for start in range(0, len(inputs), 8)]
    return [np.concatenate(column) for column in zip(*runs, strict=True)]


def _macs(path: Path) -> int:
    """Of one image; 0 where they are not known."""
    try:
        return analyze(path, batch=1).totals.macs or 0
    except AnalysisError:
        return 0


def _fastest_first(row: Row) -> tuple[str, float, float]:
    return str(row.file), -(row.pictures_per_second or 0.0), -row.images_per_second


def _rows(entry: Contender, macs: int, peaks: Mapping[str, float]) -> Iterator[Row]:
    for size, runs in entry.runs.items():
        rate = entry.images_per_second(size)
        peak = peaks.get(entry.precision)
        yield Row(
            file=entry.source.path,
            precision=entry.precision,
            plan=replace(entry.plan, max_batch_size=size),
            images_per_second=rate,
            pictures_per_second=entry.pictures_per_second(size),
            batch_seconds=entry.run_seconds(size),
            processor_seconds=entry.processor_seconds(size),
            fraction_of_peak=2 * macs * rate / peak if macs and peak else None,
            agreement=entry.agreement,
            rounds=len(runs),
        )
