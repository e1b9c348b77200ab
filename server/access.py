"""Who calls, and what they may do: bearer tokens, each with the models that it opens.

The file is TOML, one table a token; it holds hashes, so that reading it gives nobody a token:

    [dashboard]
    sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
    models = ["lenet5"]     # without it: every model

    [operator]
    sha256 = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
    admin = true            # may load and unload models
"""

import hashlib
import logging
import time
import tomllib
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from convlens.server.errors import PermissionDeniedError, StartError, UnauthenticatedError

logger = logging.getLogger(__name__)

# How often the file is looked at, at most.
LOOK_SECONDS = 1.0

# Probes carry no token, and learn nothing but whether the server answers.
OPEN_SERVICES = frozenset({"grpc.health.v1.Health"})


class Grant(BaseModel):
    """What one token opens.

    Attributes:
        sha256: of the token, in hexadecimal.
        models: the names of the models that may be asked; None for all.
        admin: whether models may be loaded and unloaded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", to_lower=True)]
    models: frozenset[str] | None = None
    admin: bool = False

    def opens(self, name: str) -> bool:
        """Whether the model may be asked, and its name be known."""
        return self.models is None or name in self.models

    def require_model(self, name: str) -> None:
        """Raises PermissionDeniedError where the token does not open the model."""
        if not self.opens(name):
            raise PermissionDeniedError(f"this token does not open model {name!r}")

    def require_admin(self) -> None:
        """Raises PermissionDeniedError where the token may not load and unload models."""
        if not self.admin:
            raise PermissionDeniedError("this token may not load or unload models")


EVERYTHING = Grant(sha256="0" * 64, admin=True)

# What the call that is being answered may do; each call's task has its own.
GRANT: ContextVar[Grant] = ContextVar("GRANT", default=EVERYTHING)


class Tokens:
    """The tokens that the server knows; their file is read again when it has changed.

    Args:
        file: of hashes.

    Raises:
        StartError: it cannot be read, or is not of the form that the module describes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._looked_at = time.monotonic()
        self._stamp = _stamp(file)
        self._by_hash = _read(file)

    def grant(self, metadata: Iterable[tuple[str, str | bytes]]) -> Grant:
        """What the caller with this metadata may do.

        Raises:
            UnauthenticatedError: there is no token, or one that is not known.
        """
        self._refresh()
        value = dict(metadata).get("authorization", "")
        scheme, _, token = (value if isinstance(value, str) else "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("send a token: the metadata authorization: Bearer TOKEN")
        grant = self._by_hash.get(hashlib.sha256(token.strip().encode()).hexdigest())
        if grant is None:
            raise UnauthenticatedError("the token is not known")
        return grant

    def _refresh(self) -> None:
        """Take the file's new tokens; a broken file is reported once, and the former ones stay."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._by_hash = _read(self._file)
        except StartError as error:
            logger.error("%s; the former tokens stay", error)
        else:
            logger.info("--tokens %s: %d tokens were read again", self._file, len(self._by_hash))


def _stamp(file: Path) -> tuple[int, int] | None:
    """Changes when the file does; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _read(file: Path) -> dict[str, Grant]:
    """The grants by the hash of their token."""
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
        grants = TypeAdapter(dict[str, Grant]).validate_python(tables)
    except OSError as error:
        raise StartError(f"--tokens {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartError(f"--tokens {file}: not TOML: {error}") from error
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise StartError(f"--tokens {file}: {where}: {problem['msg']}") from error
    return {grant.sha256: grant for grant in grants.values()}
