"""A candidate version on trial: it gets copies of requests, and its answers are compared."""

import asyncio
import contextlib
import contextvars
import logging
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from convlens.server.caller import CALLER, Caller, Priority
from convlens.server.errors import (
    ModelNotReadyError,
    OverloadedError,
    ProcessGoneError,
    ServerError,
)
from convlens.server.judge import Contest, Jury
from convlens.server.promotion import Promotion
from convlens.server.repository_metrics import RepositoryMetrics
from convlens.server.served_model import Question, ServedModel
from convlens.server.settings import Settings
from convlens.server.tensor import Array
from convlens.server.version import Version

logger = logging.getLogger(__name__)

# Copies that wait while one is answered; further ones are dropped.
COPIES_WAITING = 16


@dataclass(frozen=True)
class _Answered:
    """What a model said of a question: the first prediction of each row, None where it failed."""

    sha256: str
    predictions: Array | None


Ask = Callable[[str, str, Callable[[ServedModel], Awaitable[_Answered]]], Awaitable[_Answered]]


class Trial:
    """Compares a candidate with the version that answers, once an answer has been given.

    One copy is answered at a time, after all that is more urgent.

    Args:
        default: what answers.
        candidate: what is compared with it.
        settings: of the server.
        metrics: of the repository.
        ask: puts a question to a version of a model.
        jury: is told what the comparisons came to.
    """

    def __init__(
        self,
        default: Version,
        candidate: Version,
        settings: Settings,
        metrics: RepositoryMetrics,
        ask: Ask,
        jury: Jury,
    ) -> None:
        self.files = default.file, candidate.file
        self._default = default
        self._candidate = candidate
        self._share = settings.candidate_share
        self._agreement = {
            agrees: metrics.agreement.labels(*candidate.key, str(agrees).lower())
            for agrees in (True, False)
        }
        self._not_compared = metrics.not_compared.labels(*candidate.key)
        self._ask = ask
        self._jury = jury
        self._copies: asyncio.Queue[tuple[Question, _Answered]] = asyncio.Queue(COPIES_WAITING)
        # In a context of its own: whoever's call began the trial, the copies are not theirs.
        self._task = asyncio.get_running_loop().create_task(
            self._work(), context=contextvars.Context()
        )

    def copy(
        self, question: Question, outputs: tuple[Array, ...], sha256: str, *, busy: bool
    ) -> None:
        """Take note of a question that was answered.

        Args:
            question: an encoded picture, or tensors.
            outputs: of the graph.
            sha256: of the model's file.
            busy: whether the server has enough to do without copies.
        """
        if outputs[0].ndim != 2 or random.random() >= self._share:  # noqa: S311
            return
        if busy or self._copies.full():
            self._not_compared.inc()
        else:
            self._copies.put_nowait((question, _Answered(sha256, _first_predictions(outputs))))

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
            except ServerError:  # it is not loaded, or gone, or there is no room for copies
                self._not_compared.inc()
            else:
                await self._compare(expected, found)

    async def _compare(self, expected: _Answered, found: _Answered) -> None:
        assert expected.predictions is not None
        rows, agreed = len(expected.predictions), 0
        if found.predictions is not None and found.predictions.shape == expected.predictions.shape:
            agreed = int(np.count_nonzero(found.predictions == expected.predictions))
        self._agreement[True].inc(agreed)
        self._agreement[False].inc(rows - agreed)
        over, _ = self._default.rank
        candidate = Promotion(*self._candidate.key, found.sha256, over)
        with contextlib.suppress(ProcessGoneError):  # without its supervisor the server ends
            await self._jury.count(Contest(candidate, expected.sha256), agreed, rows)


def _put(question: Question) -> Callable[[ServedModel], Awaitable[_Answered]]:
    async def put(served: ServedModel) -> _Answered:
        try:
            predictions = await served.repeat(question, _first_predictions, math.inf)
        except (OverloadedError, ModelNotReadyError):
            raise
        except Exception as error:  # noqa: BLE001 - where the other version gave an answer
            model = served.model
            logger.warning("candidate %s@%s: %s", model.name, model.version, error)
            return _Answered(model.sha256, None)
        return _Answered(served.model.sha256, predictions)

    return put


def _first_predictions(outputs: tuple[Array, ...]) -> Array:
    """The most probable class of each row."""
    predictions: Array = np.argmax(outputs[0], axis=-1)
    return predictions


class Trials:
    """The trials under way, one a model at most; see `Trial` for the arguments."""

    def __init__(
        self, settings: Settings, metrics: RepositoryMetrics, ask: Ask, jury: Jury
    ) -> None:
        self._begin = partial(Trial, settings=settings, metrics=metrics, ask=ask, jury=jury)
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
