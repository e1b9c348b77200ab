"""What `convlens tune` found out about a model, kept beside it as `NAME.tuned.json`."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import onnxruntime as ort

from convlens.server.errors import ModelLoadError, StartError
from convlens.server.plan import Plan, Precision, default_plan
from convlens.server.precision import answering_precision
from convlens.server.providers import PROVIDERS, ModelSource
from convlens.server.providers.cache import processor_name

logger = logging.getLogger(__name__)

SCHEMA = "convlens.tuned/1"
Goal = Literal["throughput", "latency"]
TINY_BYTES = 1_000_000


@dataclass(frozen=True)
class Twin:
    """A file of the same network in fewer bits.

    Attributes:
        path: from the folder of the file that was tuned.
        sha256: of its bytes, in hexadecimal.
    """

    path: str
    sha256: str

    @classmethod
    def of(cls, source: ModelSource, folder: Path) -> "Twin":
        """Name a file as seen from a folder."""
        return cls(os.path.relpath(source.path, folder), source.sha256)


@dataclass(frozen=True)
class Tuned:
    """The plans that were the best of those measured.

    Attributes:
        key: what they were measured on and with; see `tuned_key`.
        plans: by what they are best for.
        twins: which file a plan is for, where that is not the one that was tuned.
    """

    key: Mapping[str, str | int]
    plans: Mapping[Goal, Plan]
    twins: Mapping[Goal, Twin] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        plans = {goal: asdict(plan) for goal, plan in self.plans.items()}
        twins = {goal: asdict(twin) for goal, twin in self.twins.items()}
        value = {"schema": SCHEMA, "key": self.key, "plans": plans, "twins": twins}
        text = json.dumps(value, indent=2)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Tuned":
        """Read what `write` wrote.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not what `write` writes; the text says what is wrong.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        try:
            plans = {goal: _plan(value["plans"][goal]) for goal in get_args(Goal)}
            named = value.get("twins", {})  # earlier versions wrote none
            twins = {goal: _twin(named[goal]) for goal in plans if goal in named}
            return cls(dict(value["key"]), plans, twins)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{error!r} in it") from error

    def answering(self, goal: Goal, source: ModelSource) -> ModelSource:
        """The file that a plan is for.

        Args:
            goal: of the plan.
            source: the file that was tuned.

        Raises:
            ModelLoadError: it cannot be read.
            ValueError: it is not the one that was measured.
        """
        twin = self.twins.get(goal)
        if twin is None:
            return source
        found = ModelSource.read(Path(os.path.normpath(source.path.parent / twin.path)))
        if found.sha256 != twin.sha256:
            raise ValueError(f"{found.path} has changed: tune again")
        return found


def tuned_path(model: Path) -> Path:
    """Where the findings about a model are kept."""
    return model.with_suffix(".tuned.json")


def tuned_key(sha256: str, processors: int) -> dict[str, str | int]:
    """What makes findings stale when it changes."""
    return {
        "sha256": sha256,
        "processor": processor_name(),
        "processors": processors,
        "onnxruntime": ort.__version__,
    }


@dataclass(frozen=True)
class Choice:
    """Which file answers for a model, and how it is run."""

    source: ModelSource
    plan: Plan


@dataclass(frozen=True)
class Planner:
    """Decides how each model is run.

    Attributes:
        base: the plan of a model that was not tuned.
        goal: which of the findings is used; "off" for none.
        any_provider: whether findings may name another provider than `base`.
        processors: how many there are for this process.
        shared: whether other processes have theirs of the same machine.
        max_batch_size: the most rows that share a run, whatever the findings say.
    """

    base: Plan
    goal: Goal | Literal["off"]
    any_provider: bool
    processors: int
    shared: bool = False
    max_batch_size: int = Plan.max_batch_size

    def choose(self, source: ModelSource) -> Choice:
        """The tuned plan where there is one that still holds, else the base; the log says why."""
        path = tuned_path(source.path)
        base = Choice(source, self._untuned(source))
        if self.goal == "off" or not path.exists():
            return base
        try:
            tuned = Tuned.read(path)
            answering = tuned.answering(self.goal, source)
        except (OSError, ValueError, ModelLoadError) as error:
            logger.warning("%s is ignored: %s", path, error)
            return base
        plan = tuned.plans[self.goal]
        processors = tuned.key.get("processors")
        is_of_all = self.shared and processors != self.processors
        reason = self._why_not(tuned, plan, source, processors if is_of_all else self.processors)
        if reason is not None:
            logger.warning("%s is ignored: %s", path, reason)
            return base
        if is_of_all:
            logger.info(
                "%s was tuned on %s processors; here are %d", path, processors, self.processors
            )
            size = plan.max_batch_size
            plan = default_plan(plan.provider, plan.precision, self.processors, size)
            plan = replace(plan, max_batch_size=size)
        size = min(plan.max_batch_size, self.max_batch_size)
        other = f"{answering.path} on " if answering is not source else ""
        way = plan.described(answering_precision(answering.path, plan))
        logger.info("%s, tuned for %s: %s%s", source.path, self.goal, other, way)
        return Choice(answering, replace(plan, max_batch_size=size))

    def _untuned(self, source: ModelSource) -> Plan:
        """The base; a tiny network's rows share what a run costs besides, as many as may."""
        if source.size_bytes < TINY_BYTES:
            return replace(self.base, max_batch_size=self.max_batch_size)
        return self.base

    def _why_not(
        self, tuned: Tuned, plan: Plan, source: ModelSource, processors: object
    ) -> str | None:
        key = {**tuned_key(source.sha256, self.processors), "processors": processors}
        for name, value in key.items():
            if tuned.key.get(name) != value:
                return f"its {name} was {tuned.key.get(name)}, is {value}: tune again"
        if plan.provider != self.base.provider and not self.any_provider:
            return f"it is for {plan.provider}, and --provider {self.base.provider} was given"
        return PROVIDERS[plan.provider].why_not()


def _plan(value: Mapping[str, Any]) -> Plan:
    plan = Plan(**value)
    if plan.provider not in PROVIDERS or plan.precision not in get_args(Precision):
        raise ValueError(f"there is no {plan.provider} {plan.precision}")
    if not all(
        isinstance(count, int) and count > 0
        for count in (plan.threads, plan.instances, plan.max_batch_size)
    ):
        raise ValueError("threads, instances and max_batch_size are positive whole numbers")
    return plan


def _twin(value: Mapping[str, Any]) -> Twin:
    twin = Twin(**value)
    if not isinstance(twin.path, str) or not isinstance(twin.sha256, str):
        raise ValueError("path and sha256 of a twin are texts")
    return twin


def make_planner(
    provider: str,
    precision: Precision,
    goal: Goal | Literal["off"],
    processors: int,
    max_batch_size: int,
    *,
    any_provider: bool,
    shared: bool = False,
) -> Planner:
    """The planner of a process that serves; see `Planner`.

    Raises:
        StartError: the provider does not compute in that precision.
    """
    offered = PROVIDERS[provider].precisions
    if precision not in offered:
        raise StartError(
            f"--runtime-precision {precision}: {provider} computes in {', '.join(offered)}"
        )
    base = default_plan(provider, precision, processors, max_batch_size)
    return Planner(base, goal, any_provider, processors, shared, max_batch_size)
