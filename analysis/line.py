"""Lines of text whose pieces have styles: plain in a pipe, where rich need not be imported."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        pieces: texts with their styles as rich names them, "bold yellow"; "" for none.
    """

    pieces: tuple[tuple[str, str], ...] = ()

    @property
    def plain(self) -> str:
        """The text alone."""
        return "".join(text for text, _ in self.pieces)

    def __rich__(self) -> "Text":
        """What a terminal shows of it."""
        from rich.text import Text

        return Text.assemble(*self.pieces)


def line(text: str, style: str = "") -> Line:
    """A line of one style."""
    return Line(((text, style),))
