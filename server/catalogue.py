"""Which version of which model a request means."""

from collections.abc import Mapping

from convlens.server.access import GRANT
from convlens.server.errors import InvalidRequestError, ModelNotFoundError
from convlens.server.model_files import ModelFile
from convlens.server.version import Version


class Catalogue:
    """Every version of every model that the server knows, by the names that requests use.

    Args:
        aliases: other names, each for "NAME" or "NAME@VERSION".
        default_model: answers requests that name no model; "" for the only one.
        candidates: the versions that the settings put on trial, by model.
    """

    def __init__(
        self, aliases: Mapping[str, str], default_model: str, candidates: Mapping[str, str]
    ) -> None:
        self._candidates = candidates
        self._aliases = aliases
        self._default_model = default_model
        self._models: dict[str, dict[str, Version]] = {}  # both in order: names, numbers

    @property
    def versions(self) -> list[Version]:
        """Every version, by name and then by version as a number."""
        return [entry for versions in self._models.values() for entry in versions.values()]

    def of_model(self, name: str) -> list[Version]:
        """The versions of a model, the lowest first."""
        return list(self._models.get(name, {}).values())

    def is_named_candidate(self, name: str, version: str) -> bool:
        """Whether the settings put a version on trial."""
        return self._candidates.get(name) == version

    def entry(self, file: ModelFile) -> Version:
        """The version that a file holds; it is made known where it is new."""
        versions = self._models.get(file.name, {})
        if file.version not in versions:
            candidate = self.is_named_candidate(file.name, file.version)
            versions = versions | {file.version: Version(file, candidate=candidate)}
            models = self._models | {
                file.name: {number: versions[number] for number in sorted(versions, key=int)}
            }
            self._models = {name: models[name] for name in sorted(models)}
        return versions[file.version]

    def remove(self, version: Version) -> None:
        """Forget a version, and with its last one the model."""
        name, number = version.key
        del self._models[name][number]
        if not self._models[name]:
            del self._models[name]

    def find(self, name: str, version: str) -> Version:
        """The version that a request asks for, whether or not it can be served.

        Args:
            name: of a model or an alias; empty for the only model, or the default one.
            version: empty for the default one; see `default_of`.

        Raises:
            InvalidRequestError: no name was given and there are several models.
            ModelNotFoundError: there is no such model or version.
            PermissionDeniedError: the caller's token does not open it.
        """
        name = name or self._default_name()
        if name in self._aliases:
            name, _, alias_version = self._aliases[name].partition("@")
            version = version or alias_version
        GRANT.get().require_model(name)
        if name not in self._models:
            raise ModelNotFoundError(f"no model {name!r}: there are {self.names()}")
        found = self._models[name].get(version) if version else self.default_of(name)
        if found is None:
            there_are = ", ".join(self._models[name])
            what = f"version {version!r}" if version else "version that is no candidate"
            raise ModelNotFoundError(f"model {name!r} has no {what}: there are {there_are}")
        return found

    def default_of(self, name: str) -> Version | None:
        """Of the highest rank among those that can be asked, or else of all; no candidate."""
        entries = [entry for entry in self._models.get(name, {}).values() if not entry.candidate]
        if len(entries) == 1:
            return entries[0]
        return max(entries, key=lambda entry: (entry.can_be_asked, entry.rank), default=None)

    def names(self) -> str:
        """The names that the caller may use, for a message."""
        opens = GRANT.get().opens
        models = {name for name in self._models if opens(name)}
        aliases = {
            alias for alias, model in self._aliases.items() if opens(model.partition("@")[0])
        }
        return ", ".join(sorted(models | aliases)) or "none"

    def _default_name(self) -> str:
        if self._default_model:
            return self._default_model
        if len(self._models) == 1:
            return next(iter(self._models))
        if not self._models:
            raise ModelNotFoundError("no model is loaded")
        raise InvalidRequestError(f"name a model: there are {self.names()}")
