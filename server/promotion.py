"""Which candidates were promoted: a file beside the models keeps it over restarts."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

FILE_NAME = "promotions.json"


@dataclass(frozen=True)
class Promotion:
    """A version that is no candidate any more.

    Attributes:
        model: its name.
        version: of the model.
        sha256: of the very file that agreed; another one in its place is on trial again.
        over: the highest version there was to go before; one that comes later with a higher number
            becomes the default as ever. It is no part of which promotion this is.
    """

    model: str
    version: str
    sha256: str
    over: int = field(compare=False)


class Promotions:
    """The promotions that hold: one a model.

    Args:
        folder: of the models; its file is read here and now. One that cannot be read promotes
            nobody, which is logged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._held = {entry.model: entry for entry in _read(self._path)}

    def __contains__(self, promotion: object) -> bool:
        """Whether this very file of this version was promoted."""
        return promotion in self._held.values()

    def __iter__(self) -> Iterator[Promotion]:
        """Each of them."""
        return iter(self._held.values())

    def find(self, model: str, version: str) -> Promotion | None:
        """That of this version, if any of its files was promoted."""
        held = self._held.get(model)
        return held if held is not None and held.version == version else None

    def add(self, promotion: Promotion) -> None:
        """Let one hold until the process ends; see `keep`."""
        self._held[promotion.model] = promotion

    def keep(self) -> None:
        """Write them down, whole or not at all; where that is not possible, the log says so."""
        unfinished = self._path.with_suffix(".unfinished")
        entries = {
            entry.model: {"version": entry.version, "sha256": entry.sha256, "over": entry.over}
            for entry in self
        }
        try:
            unfinished.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
            unfinished.replace(self._path)
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s): promotions hold until the server ends, "
                "and its next start begins their trials anew",
                self._path,
                error.strerror,
            )


def _read(path: Path) -> list[Promotion]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [
            Promotion(name, entry["version"], entry["sha256"], int(entry["over"]))
            for name, entry in entries.items()
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("%s is ignored, candidates are on trial again: %r", path, error)
        return []
