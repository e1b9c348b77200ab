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
import tomllib
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from convlens.server.errors import PermissionDeniedError, StartError, UnauthenticatedError

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

    def require_model(self, name: str) -> None:
        """Raises PermissionDeniedError where the token does not open the model."""
        if self.models is not None and name not in self.models:
            raise PermissionDeniedError(f"this token does not open model {name!r}")

    def require_admin(self) -> None:
        """Raises PermissionDeniedError where the token may not load and unload models."""
        if not self.admin:
            raise PermissionDeniedError("this token may not load or unload models")


EVERYTHING = Grant(sha256="0" * 64, admin=True)

# What the call that is being answered may do; each call's task has its own.
GRANT: ContextVar[Grant] = ContextVar("GRANT", default=EVERYTHING)


class Tokens:
    """The tokens that the server knows.

    Args:
        grants: by the token's name.
    """

    def __init__(self, grants: Mapping[str, Grant]) -> None:
        self._by_hash = {grant.sha256: grant for grant in grants.values()}

    @classmethod
    def read(cls, file: Path) -> "Tokens":
        """Read the file of hashes.

        Raises:
            StartError: it cannot be read, or is not of the form that the module describes.
        """
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
            return cls(TypeAdapter(dict[str, Grant]).validate_python(tables))
        except OSError as error:
            raise StartError(f"--tokens {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StartError(f"--tokens {file}: not TOML: {error}") from error
        except ValidationError as error:
            problem = error.errors(include_input=False)[0]
            where = ".".join(map(str, problem["loc"]))
            raise StartError(f"--tokens {file}: {where}: {problem['msg']}") from error

    def grant(self, metadata: Iterable[tuple[str, str | bytes]]) -> Grant:
        """What the caller with this metadata may do.

        Raises:
            UnauthenticatedError: there is no token, or one that is not known.
        """
        value = dict(metadata).get("authorization", "")
        scheme, _, token = (value if isinstance(value, str) else "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("send a token: the metadata authorization: Bearer TOKEN")
        grant = self._by_hash.get(hashlib.sha256(token.strip().encode()).hexdigest())
        if grant is None:
            raise UnauthenticatedError("the token is not known")
        return grant
