"""The model file on disk: mapped, checked, and read without its weights."""

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.analysis import wire
from convlens.analysis.errors import ModelFileError, WireError

if TYPE_CHECKING:
    from onnx import ModelProto

# A file of this size is copied; a larger one may be nearly all weights, and is mapped.
_SMALL_FILE_BYTES = 4 * 2**20
# ModelProto's fields.
_GRAPH, _METADATA_PROPS = 7, 14
# StringStringEntryProto's fields.
_KEY, _VALUE = 1, 2


@dataclass(frozen=True)
class ModelFile:
    """A model file without its weights.

    Attributes:
        path: where it was read.
        file_bytes: its size, weights included.
        proto: the model; tensors of more than a few KB have name, dims and type but no values.
    """

    path: Path
    file_bytes: int
    proto: "ModelProto"


def read_model(path: str | Path) -> ModelFile:
    """Read a model; neither time nor memory grow with its weights.

    Weights in external files are not looked for: a model is read whether they are there or not.

    Raises:
        ModelFileError: the file is missing, empty, truncated or not ONNX.
    """
    # Imported here because reading a file's metadata takes no onnx.
    from google.protobuf.message import DecodeError

    from convlens.analysis.onnx_parts import ModelProto

    path = Path(path)
    with _mapped_model(path) as data:
        file_bytes = len(data)
        stripped = wire.strip_payloads(data, "model", 0, file_bytes)
    try:
        proto = ModelProto.FromString(stripped)
    except DecodeError as error:
        raise ModelFileError(f"{path}: truncated or damaged: {error}") from error
    return ModelFile(path=path, file_bytes=file_bytes, proto=proto)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read a model file's ``metadata_props`` without reading the rest and without importing onnx.

    Raises:
        ModelFileError: the file is missing, empty, truncated or not ONNX.
    """
    metadata: dict[str, str] = {}
    with _mapped_model(Path(path)) as data:
        for field in wire.fields(data, 0, len(data)):
            if field.number == _METADATA_PROPS and field.wire_type == wire.LENGTH_DELIMITED:
                entry = {
                    part.number: data[part.value : part.end]
                    for part in wire.fields(data, field.value, field.end)
                }
                metadata[_text(entry.get(_KEY))] = _text(entry.get(_VALUE))
    return metadata


def sha256(path: str | Path) -> str:
    """The file's SHA-256, in hexadecimal. It reads the whole file: about a second a gigabyte.

    Raises:
        ModelFileError: the file cannot be read any more.
    """
    import hashlib

    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}") from error


@contextmanager
def _mapped_model(path: Path) -> Iterator[wire.Buffer]:
    """Map the file; what is wrong with its bytes is reported with its name."""
    with _mapped(path) as data:
        try:
            if not any(field.number == _GRAPH for field in wire.fields(data, 0, len(data))):
                raise ModelFileError(f"{path}: not an ONNX file: it holds no graph")
            yield data
        except WireError as error:
            verdict = "truncated or damaged" if _starts_like_a_model(data) else "not an ONNX file"
            raise ModelFileError(f"{path}: {verdict}: {error}") from error


@contextmanager
def _mapped(path: Path) -> Iterator[wire.Buffer]:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelFileError(f"{path}: is a directory")
        # Opening a pipe would wait for its writer, and a device may have no end.
        if not stat.S_ISREG(status.st_mode):
            raise ModelFileError(f"{path}: not a regular file")
        if status.st_size == 0:
            raise ModelFileError(f"{path}: the file is empty")
        descriptor = os.open(path, os.O_RDONLY)
        try:
            mapping = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror}") from error
    with mapping:
        # Bytes are looked at faster than a mapping is.
        yield mapping[:] if len(mapping) <= _SMALL_FILE_BYTES else mapping


def _starts_like_a_model(data: wire.Buffer) -> bool:
    """Whether the first field is an ir_version or a text of the model's head."""
    return data[0] in (0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", errors="replace")
