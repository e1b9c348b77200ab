"""The model files in a folder: which models and versions there are."""

import logging
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from convlens.server.errors import StartError
from convlens.server.external_data import external_files
from convlens.server.settings import Settings

logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int]  # of a file: inode, size and time of modification


@dataclass(frozen=True)
class ModelFile:
    """One version of a model, as it lies in the folder.

    Attributes:
        name: of the model.
        version: a number as a string.
        path: of the file.
        stamp: changes with the file's content.
        weights: the stamps of the files beside it that hold weights of it; None of a missing one.
    """

    name: str
    version: str
    path: Path
    stamp: Stamp
    weights: tuple[tuple[Path, Stamp | None], ...] = ()


class ModelFolder:
    """A folder with `name.onnx` (version 1) and `name/version/model.onnx`.

    Hidden ones are passed over: they are what editors and copiers have not finished yet.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[tuple[Path, Stamp], ModelFile] = {}  # those need not be read again
        self._said: set[str] = set()

    def find(self) -> list[ModelFile]:
        """Look for models; what is ignored is said in the log when it is first seen.

        Returns:
            By name, then by version as a number. A plain file stands before a folder's version 1.

        Raises:
            StartError: there is no such folder.
        """
        listing = _list(self._path)
        for warning in listing.ignored.difference(self._said):
            logger.warning("%s", warning)
        files = [self._with_weights(file) for file in listing.files.values()]
        self._said = listing.ignored
        self._known = {(file.path, file.stamp): file for file in files}
        return sorted(files, key=lambda file: (file.name, int(file.version)))

    def _with_weights(self, file: ModelFile) -> ModelFile:
        known = self._known.get((file.path, file.stamp))
        paths = [path for path, _ in known.weights] if known else external_files(file.path)
        return replace(file, weights=tuple((path, _stamp(path)) for path in paths))


def check_folder(settings: Settings, files: Iterable[ModelFile]) -> None:
    """Make sure that there is something to serve, and that the settings speak of what there is.

    What may come yet, when a model is loaded on request, is logged as a warning.

    Args:
        settings: of the server.
        files: that were found.

    Raises:
        StartError: it is not so.
    """
    folder = settings.models
    versions: dict[str, set[str]] = {}
    for file in files:
        versions.setdefault(file.name, set()).add(file.version)
    if not versions:
        raise StartError(f"--models {folder}: there is no name.onnx and no name/1/model.onnx in it")
    there_are = ", ".join(sorted(versions))
    default = settings.aliases.get(settings.default_model, settings.default_model)
    if default and default.partition("@")[0] not in versions:
        raise StartError(f"--default-model {settings.default_model}: there are {there_are}")
    named = [(f"--alias {alias}={model}", model) for alias, model in settings.aliases.items()]
    candidates = [f"{name}@{version}" for name, version in settings.candidates.items()]
    for setting, target in [*named, *((f"--candidate {entry}", entry) for entry in candidates)]:
        name, _, version = target.partition("@")
        if name not in versions:
            logger.warning("%s: there is no such model yet; there are %s", setting, there_are)
        elif version and version not in versions[name]:
            there_is = ", ".join(sorted(versions[name], key=int))
            logger.warning("%s: there is no such version yet; there are %s", setting, there_is)
    for name, version in settings.candidates.items():
        if versions.get(name) == {version} and not settings.promote_at:
            logger.warning(
                "--candidate %s@%s: it is the only version, nothing answers those who name none",
                name,
                version,
            )


@dataclass
class _Listing:
    """What is in a folder: models by name and version, and why others are ignored."""

    files: dict[tuple[str, str], ModelFile] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)

    def add(self, name: str, version: str, path: Path) -> None:
        try:
            status = path.stat()
        except OSError:  # it was removed since it was listed
            return
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            self.ignored.add(f"{path}: ignored, it is not a regular file")
            return
        if not name.isprintable():  # what is not UTF-8 included, which no message could carry
            self.ignored.add(f"{str(path)!a}: ignored, its name cannot be printed")
            return
        if (name, version) in self.files:
            self.ignored.add(f"{self.files[name, version].path}: ignored, {path} is served")
        self.files[name, version] = ModelFile(name, version, path, _stamp_of(status))


def _list(folder: Path) -> _Listing:
    if not folder.is_dir():
        raise StartError(f"--models {folder}: there is no such folder")
    listing = _Listing()
    for path in folder.glob("*/*/model.onnx"):
        if path.parent.parent.name.startswith("."):
            continue
        if path.parent.name.isascii() and path.parent.name.isdecimal():
            listing.add(path.parent.parent.name, path.parent.name, path)
        else:
            listing.ignored.add(f"{path}: ignored, its folder's name is not a number")
    for path in folder.glob("[!.]*.onnx"):
        listing.add(path.stem, "1", path)
    return listing


def _stamp(path: Path) -> Stamp | None:
    try:
        return _stamp_of(path.stat())
    except (OSError, ValueError):  # it is not there, or could not be by that name
        return None


def _stamp_of(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns
