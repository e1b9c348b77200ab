"""The model files in a folder: which models and versions there are."""

import logging
import stat
from dataclasses import dataclass
from pathlib import Path

from convlens.server.errors import StartError
from convlens.server.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFile:
    """One version of a model, as it lies in the folder.

    Attributes:
        name: of the model.
        version: a number as a string.
        path: of the file.
        stamp: changes with the file's content: inode, size and time of modification.
    """

    name: str
    version: str
    path: Path
    stamp: tuple[int, int, int]


def find_model_files(folder: Path) -> list[ModelFile]:
    """Find `name.onnx` (version 1) and `name/version/model.onnx` in a folder.

    Hidden ones are passed over: they are what editors and copiers have not finished yet.

    Returns:
        By name, then by version as a number. A plain file stands before a folder's version 1.

    Raises:
        StartError: there is no such folder.
    """
    if not folder.is_dir():
        raise StartError(f"--models {folder}: there is no such folder")
    found: dict[tuple[str, str], ModelFile] = {}
    for path in folder.glob("*/*/model.onnx"):
        if path.parent.parent.name.startswith("."):
            continue
        if path.parent.name.isascii() and path.parent.name.isdecimal():
            _add(found, path.parent.parent.name, path.parent.name, path)
        else:
            logger.warning("%s: ignored, its folder's name is not a number", path)
    for path in folder.glob("[!.]*.onnx"):
        _add(found, path.stem, "1", path)
    return sorted(found.values(), key=lambda file: (file.name, int(file.version)))


def check_folder(settings: Settings) -> None:
    """Make sure that there is something to serve, and that the settings speak of what there is.

    What may come yet, when a model is loaded on request, is logged as a warning.

    Raises:
        StartError: it is not so.
    """
    folder = settings.models
    versions: dict[str, set[str]] = {}
    for file in find_model_files(folder):
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


def _add(found: dict[tuple[str, str], ModelFile], name: str, version: str, path: Path) -> None:
    try:
        status = path.stat()
    except OSError:  # it was removed since it was listed
        return
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
        logger.warning("%s: ignored, it is not a regular file", path)
        return
    if not name.isprintable():  # what is not UTF-8 included, which no message could carry
        logger.warning("%a: ignored, its name cannot be printed", str(path))
        return
    if (name, version) in found:
        logger.warning("%s: ignored, %s is served", found[name, version].path, path)
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
    found[name, version] = ModelFile(name, version, path, stamp)
