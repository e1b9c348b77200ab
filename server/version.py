"""One version of a model, and where it is in its life."""

import asyncio
import enum
from dataclasses import dataclass

from convlens.server.errors import (
    ModelLoadError,
    ModelNotReadyError,
    ModelRetiredError,
    ServerError,
)
from convlens.server.model_files import ModelFile
from convlens.server.served_model import ServedModel


class State(enum.Enum):
    """Where a version of a model is in its life."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"
    UNLOADED = "unloaded"


@dataclass(eq=False)
class Version:
    """One version of a model, whether or not it can be served.

    Attributes:
        file: that was loaded last, or that could not be.
        candidate: whether it answers only those who name it, and copies of the others' requests.
        promoted_over: it goes before all versions up to this number; 0 where it was not promoted.
        state: changes as files come and go, and as memory is needed.
        reason: why it is not ready, or why its newest file is not the one that answers.
        served: what answers requests, once there is such a thing.
        loading: under way because somebody asked for it.
        callers_waiting: for that.
        last_asked: when a request asked for it, as of `time.monotonic`.
        stays_until: is not evicted before that, as of `time.monotonic`.
        memory_bytes: what it takes while it is loaded; 0 where that is not counted.
    """

    file: ModelFile
    candidate: bool = False
    promoted_over: int = 0
    state: State = State.LOADING
    reason: str = "it is being loaded"
    served: ServedModel | None = None
    loading: asyncio.Task[None] | None = None
    callers_waiting: int = 0
    last_asked: float = 0.0
    stays_until: float = 0.0
    memory_bytes: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Name and version."""
        return self.file.name, self.file.version

    @property
    def rank(self) -> tuple[int, bool]:
        """The highest is the default: by number, but a promoted one goes before its elders."""
        return max(int(self.file.version), self.promoted_over), self.promoted_over > 0

    @property
    def can_be_asked(self) -> bool:
        """Whether a request for it would be answered: at once, or after it has been loaded."""
        is_being_loaded = self.loading is not None and self.state is State.LOADING
        return self.served is not None or is_being_loaded or self.state is State.UNLOADED

    def why_not(self) -> ServerError:
        """The error of those who ask for it while it is not served."""
        message = (
            f"model {self.file.name!r} version {self.file.version} is not ready: {self.reason}"
        )
        if self.state is State.FAILED:
            return ModelLoadError(message)
        if self.state is State.UNLOADED:  # it was evicted before its caller's turn came
            return ModelRetiredError(message)
        return ModelNotReadyError(message)

    def try_again(self) -> None:
        """Forget that it failed: what it lacked, a file beside its own, may be there now."""
        if self.state is State.FAILED:
            self.become(State.LOADING, "it is being loaded")

    def become(self, state: State, reason: str = "") -> None:
        """Change the state, and say why."""
        self.state, self.reason = state, reason
