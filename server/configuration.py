"""Where the settings come from: flags, then the environment, then a TOML file, then defaults."""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from convlens.server.errors import ConfigurationError
from convlens.server.settings import Settings

PREFIX = "CONVLENS_"


@dataclass(frozen=True)
class Configuration:
    """The effective settings.

    Attributes:
        settings: checked and complete.
        origins: for each setting that is not at its default, where its value came from.
    """

    settings: Settings
    origins: Mapping[str, str]

    def __str__(self) -> str:
        """One setting a line: name, value, origin."""
        rows = [
            (name, str(value), self.origins.get(name, "default"))
            for name, value in self.settings.model_dump().items()
        ]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        return "\n".join(
            f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for name, value, origin in rows
        )


class _Variables(EnvSettingsSource):
    """Reads the variables; what is no JSON where pairs are needed is named."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """The pairs of a setting such as aliases."""
        try:
            return json.loads(value)
        except ValueError as error:
            key, _, needed = re.split("([=@])", (field.examples or ["KEY=VALUE"])[0], maxsplit=1)
            form = json.dumps({key: needed})
            name = f"{PREFIX}{field_name.upper()}"
            raise ConfigurationError(f"{name}: must be JSON, as {form}, is {value!r}") from error


class _Environment(BaseSettings, Settings):
    """The fields of `Settings`, as pydantic-settings reads them from environment variables."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)


def configure(flags: Mapping[str, Any], file: Path | None) -> Configuration:
    """Merge the sources; the environment is read here and nowhere else.

    Args:
        flags: those that were given, by the name of the setting.
        file: in TOML, one key a setting.

    Raises:
        ConfigurationError: a setting is unknown or wrong; the text names it and its origin.
    """
    values: dict[str, Any] = {"cache_dir": _cache_dir()}
    origins: dict[str, str] = {}
    for source, origin_of in (
        (_read_file(file), lambda name: f"{file}: {name}"),
        (_read_environment(), lambda name: f"{PREFIX}{name.upper()}"),
        (flags, flag_of),
    ):
        values.update(source)
        origins.update({name: origin_of(name) for name in source})
    for name, field in Settings.model_fields.items():
        if values.get(name) == "" and field.annotation is not str:
            raise ConfigurationError(f"{origins[name]}: is empty: give a value, or leave it out")
    try:
        return Configuration(Settings.model_validate(values), origins)
    except ValidationError as error:
        raise ConfigurationError(_first_problem(error, origins)) from error


def flag_of(name: str) -> str:
    """The flag of a setting: `--grace` for grace_seconds, `--alias` for aliases."""
    short = {"grace_seconds": "grace", "aliases": "alias", "candidates": "candidate"}
    return "--" + short.get(name, name).replace("_", "-")


def _cache_dir() -> Path | None:
    """Where programs keep what they can make again; None for a user without a home.

    Source: XDG Base Directory Specification.
    """
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    except RuntimeError:
        return None
    return Path(home) / "convlens"


def _read_environment() -> dict[str, Any]:
    values = _Variables(_Environment)()
    # Kubernetes tells the pods beside a service named convlens of its address, in CONVLENS_PORT.
    if re.match("(tcp|udp|sctp)://", str(values.get("port"))):
        del values["port"]
    return values


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--config {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--config {file}: not TOML: {error}") from error


def _first_problem(error: ValidationError, origins: Mapping[str, str]) -> str:
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    where = origins.get(name, name)
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{where}: there is no such setting{hint}"
    return f"{where}: {problem['msg'].lower()}, is {problem['input']!r}"
