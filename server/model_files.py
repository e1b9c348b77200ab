"""The model files in a folder: which models and versions there are."""

import logging
from dataclasses import dataclass
from pathlib import Path

from convlens.server.errors import StartError

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
        if path.parent.name.isdecimal():
            _add(found, path.parent.parent.name, path.parent.name, path)
        else:
            logger.warning("%s: ignored, its folder's name is not a number", path)
    for path in folder.glob("[!.]*.onnx"):
        _add(found, path.stem, "1", path)
    return sorted(found.values(), key=lambda file: (file.name, int(file.version)))


def check_folder(folder: Path, default_model: str) -> None:
    """Make sure that there is something to serve.

    Args:
        folder: of the files.
        default_model: that must be among them; "" for none.

    Raises:
        StartError: it is not so.
    """
    names = sorted({file.name for file in find_model_files(folder)})
    if not names:
        raise StartError(f"--models {folder}: there is no name.onnx and no name/1/model.onnx in it")
    if default_model and default_model not in names:
        raise StartError(f"--default-model {default_model}: there are {', '.join(names)}")


def _add(found: dict[tuple[str, str], ModelFile], name: str, version: str, path: Path) -> None:
    try:
        status = path.stat()
    except OSError:  # it was removed since it was listed
        return
    if (name, version) in found:
        logger.warning("%s: ignored, %s is served", found[name, version].path, path)
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
    found[name, version] = ModelFile(name, version, path, stamp)
