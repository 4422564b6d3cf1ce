"""Text in pictures: lines of words, each letter in the first font that has it.

Source Sans 3, the font of the pages, covers Latin, Greek and Cyrillic. Letters of other scripts
come from a font of the machine where one has all of them; else each is drawn as a question mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from pathlib import Path
from typing import Final

from PIL import ImageDraw, ImageFont

# The fonts of the page; one copy serves both.
_SHIPPED: Final = Path(__file__).parent.parent / "web/static/fonts"
_SUBSETS: Final = ("latin", "latin-ext", "greek", "cyrillic")
_FOLDERS: Final = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
)
_NOWHERE: Final = "\U0010fffe"  # a code point that no font has

REGULAR, SEMIBOLD = 400, 600
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class StyledText:
    """A text in one weight and colour."""

    text: str
    weight: int
    colour: Colour


@dataclass(frozen=True, slots=True)
class _Piece:
    """Letters of one font."""

    text: str
    font: ImageFont.FreeTypeFont
    colour: Colour

    @property
    def width(self) -> float:
        return float(self.font.getlength(self.text))


TypesetLine = Sequence[_Piece]


_ALONE: Final = 0.25  # of the width: a line below it looks forgotten


def wrapped(spans: Sequence[StyledText], size: float, width: float) -> list[TypesetLine]:
    """Return the lines of the spans, which follow each other, for letters of `size` pixels.

    Lines break at plain spaces. A word that is wider than a line has a line of its own, cut with an
    ellipsis. The last line is no word alone where the others can spare some.
    """
    lines = _broken(spans, size, width)
    if len(lines) < 2 or width_of(lines[-1]) >= _ALONE * width:
        return lines
    for narrower in (0.9, 0.8, 0.7):
        shorter = _broken(spans, size, narrower * width)
        if len(shorter) == len(lines) and width_of(shorter[-1]) >= _ALONE * width:
            return shorter
    return lines


def _broken(spans: Sequence[StyledText], size: float, width: float) -> list[TypesetLine]:
    lines: list[list[_Piece]] = [[]]
    used = 0.0
    for span in spans:
        for word in span.text.split(" "):
            pieces = list(_pieces(StyledText(word, span.weight, span.colour), size))
            blank = _Piece(" ", _font(_path("latin"), size, span.weight), span.colour)
            needed = sum(piece.width for piece in pieces)
            if lines[-1] and used + blank.width + needed > width:
                lines.append([])
                used = 0.0
            if lines[-1]:
                lines[-1].append(blank)
                used += blank.width
            if needed > width:
                pieces = list(_cut(span, word, size, width))
                needed = sum(piece.width for piece in pieces)
            lines[-1] += pieces
            used += needed
    return [line for line in lines if line]


def width_of(line: TypesetLine) -> float:
    """Return the width of a line in pixels."""
    return sum(piece.width for piece in line)


def draw_line(pen: ImageDraw.ImageDraw, line: TypesetLine, left: float, baseline: float) -> None:
    """Draw a line from `left` on its baseline."""
    for piece in line:
        pen.text((left, baseline), piece.text, piece.colour, piece.font, anchor="ls")
        left += piece.width


def _cut(span: StyledText, word: str, size: float, width: float) -> Iterator[_Piece]:
    """As many letters of a word as fit, and an ellipsis."""
    letters = word
    while letters:
        letters = letters[:-1]
        pieces = list(_pieces(StyledText(letters + "…", span.weight, span.colour), size))
        if sum(piece.width for piece in pieces) <= width:
            yield from pieces
            return


def _pieces(span: StyledText, size: float) -> Iterator[_Piece]:
    paths = [_path_for(letter, span.text) for letter in span.text]
    letters = [
        (path or _path("latin"), letter if path else "?")
        for path, letter in zip(paths, span.text, strict=True)
    ]
    for path, group in groupby(letters, key=lambda pair: pair[0]):
        text = "".join(letter for _, letter in group)
        yield _Piece(text, _font(path, size, span.weight), span.colour)


def _path(subset: str) -> str:
    return str(_SHIPPED / f"source-sans-3-{subset}.woff2")


@lru_cache(maxsize=4096)
def _path_for(letter: str, text: str) -> str | None:
    """The file of the first font with this letter; None: there is none."""
    for subset in _SUBSETS:
        if _has(_path(subset), letter):
            return _path(subset)
    return _of_the_machine("".join(sorted({c for c in text if not _is_shipped(c)})))


def _is_shipped(letter: str) -> bool:
    return any(_has(_path(subset), letter) for subset in _SUBSETS)


@lru_cache(maxsize=256)
def _of_the_machine(letters: str) -> str | None:
    """The file of a font of the machine with all of these letters, among the first 400."""
    folders = (Path(folder).expanduser() for folder in _FOLDERS)
    files = (file for folder in folders for file in sorted(folder.rglob("*.[ot]t[fc]")))
    for file in islice(files, 400):
        if all(_has(str(file), letter) for letter in letters):
            return str(file)
    return None


@lru_cache(maxsize=4096)
def _has(path: str, letter: str) -> bool:
    """Whether a font draws the letter, and not the box for letters that it lacks."""
    try:
        font = ImageFont.truetype(path, 24)
    except OSError:  # of the machine, and damaged
        return False
    if letter.isspace():
        return True
    glyph, missing = font.getmask(letter), font.getmask(_NOWHERE)
    return (glyph.size, bytes(glyph)) != (missing.size, bytes(missing)) and glyph.size != (0, 0)


@lru_cache(maxsize=64)
def _font(path: str, size: float, weight: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(path, size)
    try:
        font.set_variation_by_axes([weight])
    except (OSError, ValueError):  # a font of the machine with one weight
        return font
    return font
