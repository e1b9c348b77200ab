"""A candidate version on trial: it gets copies of requests, and its answers are compared."""

import asyncio
import contextvars
import logging
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np

from convlens.server.caller import CALLER, Caller, Priority
from convlens.server.errors import ModelLoadError, ModelNotReadyError, OverloadedError
from convlens.server.repository_metrics import RepositoryMetrics
from convlens.server.served_model import Question, ServedModel
from convlens.server.settings import Settings
from convlens.server.tensor import Array
from convlens.server.version import Version

logger = logging.getLogger(__name__)

# Copies that wait while one is answered; further ones are dropped.
COPIES_WAITING = 16

Ask = Callable[
    [str, str, Callable[[ServedModel], Awaitable[Array | None]]], Awaitable[Array | None]
]


class Trial:
    """Compares a candidate with the version that answers, once an answer has been given.

    One copy is answered at a time, after all that is more urgent.

    Args:
        default: what answers.
        candidate: what is compared with it.
        settings: of the server.
        metrics: of the repository.
        ask: puts a question to a version of a model.
        on_passed: is called where the candidate agreed often enough.
    """

    def __init__(
        self,
        default: Version,
        candidate: Version,
        settings: Settings,
        metrics: RepositoryMetrics,
        ask: Ask,
        on_passed: Callable[[Version], None],
    ) -> None:
        self.files = default.file, candidate.file
        self._candidate = candidate
        self._settings = settings
        self._agreement = {
            agrees: metrics.agreement.labels(*candidate.key, str(agrees).lower())
            for agrees in (True, False)
        }
        self._not_compared = metrics.not_compared.labels(*candidate.key)
        self._ask = ask
        self._on_passed = on_passed
        self._compared = self._agreed = 0
        self._copies: asyncio.Queue[tuple[Question, Array]] = asyncio.Queue(COPIES_WAITING)
        # In a context of its own: whoever's call began the trial, the copies are not theirs.
        self._task = asyncio.get_running_loop().create_task(
            self._work(), context=contextvars.Context()
        )

    def copy(self, question: Question, outputs: tuple[Array, ...], *, busy: bool) -> None:
        """Take note of a question that was answered.

        Args:
            question: an encoded picture, or tensors.
            outputs: of the graph.
            busy: whether the server has enough to do without copies.
        """
        if outputs[0].ndim != 2 or random.random() >= self._settings.candidate_share:  # noqa: S311
            return
        if busy or self._copies.full():
            self._not_compared.inc()
        else:
            self._copies.put_nowait((question, _first_predictions(outputs)))

    async def close(self) -> None:
        """Compare no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        CALLER.set(Caller(priority=Priority.LOW))
        while True:
            question, expected = await self._copies.get()
            try:
                found = await self._ask(*self._candidate.key, _put(question))
            except (OverloadedError, ModelNotReadyError, ModelLoadError):
                self._not_compared.inc()
                continue
            except Exception as error:  # noqa: BLE001 - where the other version gave an answer
                logger.warning("candidate %s@%s: %s", *self._candidate.key, error)
                found = None
            self._compare(expected, found)

    def _compare(self, expected: Array, found: Array | None) -> None:
        agreement = np.zeros(len(expected), bool)
        if found is not None and found.shape == expected.shape:
            agreement = found == expected
        for agrees in agreement.tolist():
            self._agreement[agrees].inc()
            self._compared += 1
            self._agreed += agrees
        if self._compared >= self._settings.promote_after:
            self._judge()

    def _judge(self) -> None:
        share = self._agreed / self._compared
        passed = 0.0 < self._settings.promote_at <= share
        logger.log(
            logging.INFO if passed or not self._settings.promote_at else logging.WARNING,
            "candidate %s@%s gave the same first prediction for %.2f %% of %d rows%s",
            *self._candidate.key,
            100 * share,
            self._compared,
            ": it becomes the default version" if passed else "",
        )
        self._compared = self._agreed = 0
        if passed:
            self._on_passed(self._candidate)


def _put(question: Question) -> Callable[[ServedModel], Awaitable[Array | None]]:
    async def put(served: ServedModel) -> Array | None:
        return await served.repeat(question, _first_predictions, math.inf)

    return put


def _first_predictions(outputs: tuple[Array, ...]) -> Array:
    """The most probable class of each row."""
    predictions: Array = np.argmax(outputs[0], axis=-1)
    return predictions


class Trials:
    """The trials under way, one a model at most; see `Trial` for the arguments."""

    def __init__(
        self,
        settings: Settings,
        metrics: RepositoryMetrics,
        ask: Ask,
        on_passed: Callable[[Version], None],
    ) -> None:
        self._begin = partial(
            Trial, settings=settings, metrics=metrics, ask=ask, on_passed=on_passed
        )
        self._trials: dict[str, Trial] = {}

    async def follow(self, name: str, default: Version | None, versions: list[Version]) -> None:
        """Start, end or begin anew a model's trial after one of its versions has changed.

        Args:
            name: of the model.
            default: what answers where no version is named.
            versions: of the model.
        """
        candidate = next((entry for entry in versions if entry.candidate), None)
        trial = self._trials.get(name)
        if default is None or candidate is None:
            self._trials.pop(name, None)
        elif trial is None or trial.files != (default.file, candidate.file):
            self._trials[name] = self._begin(default, candidate)
        for entry in versions:
            if entry.served is not None:
                entry.served.trial = self._trials.get(name) if entry is default else None
        if trial is not None and trial is not self._trials.get(name):
            await trial.close()

    async def close(self) -> None:
        """End all of them."""
        for trial in self._trials.values():
            await trial.close()
        self._trials.clear()
