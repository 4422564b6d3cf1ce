"""Signs, number plates, documents and screens, drawn on photographs: text whose truth is known.

Words and numbers are those of the Unicode locale data (names of countries, languages, months and
days in ten languages with Latin letters, from the package `babel`); half of them, by a checksum,
are kept for tests.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from babel import Locale
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from trustscale_server.upscalers.base import RGB

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "cs")
PLATE = list("ABCDEFGHJKLMNPRSTUVWXYZ0123456789")
KINDS = ("sign", "plate", "document", "screen")
_LEAST_WORD = 3

Colour = tuple[int, ...]


class Text(NamedTuple):
    """Lines of words, the colour of what they stand on, theirs, and how far they are turned."""

    lines: str
    paper: Colour
    ink: Colour
    degrees: float


@cache
def words(*, test: bool) -> tuple[str, ...]:
    """Words in some languages, those for tests or the others."""
    found = set()
    for locale in map(Locale, LANGUAGES):
        months, days = locale.months["format"]["wide"], locale.days["format"]["wide"]
        for names in (locale.territories, locale.languages, months, days):
            for name in names.values():
                found.update(word for word in name.split() if word.isalpha())
    return tuple(
        word
        for word in sorted(found)
        if len(word) >= _LEAST_WORD and zlib.crc32(word.encode()) % 2 == test
    )


@cache
def _letters(font: str) -> frozenset[int]:
    with TTFont(font, fontNumber=0, lazy=True) as file:
        return frozenset(file.getBestCmap())


class Lettering:
    """Draws text on photographs, with font sizes between two heights in pixels (log-uniform)."""

    def __init__(
        self, fonts: Sequence[Path], heights: tuple[float, float], *, test: bool = False
    ) -> None:
        self.fonts, self.heights = sorted(map(str, fonts)), heights
        self.words = words(test=test)

    def on(self, photo: RGB) -> RGB:
        """The photograph with a sign, a plate, a document or a screen, always the same one."""
        random = np.random.default_rng(zlib.crc32(photo.tobytes()))
        height = math.exp(random.uniform(*np.log(self.heights)))
        path = str(random.choice(np.array(self.fonts, str)))
        kind = KINDS[random.integers(len(KINDS))]
        room = (int(photo.shape[0] / (2.3 * height)), int(1.6 * photo.shape[1] / height))
        text = self._text(kind, random, path, room)
        font = ImageFont.truetype(path, 2 * height)
        left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox(
            (0, 0), text.lines, font, spacing=height
        )
        edge = height * random.uniform(0.6, 1.6)
        size = (math.ceil(right - left + 2 * edge), math.ceil(bottom - top + 2 * edge))
        surface = Image.new("RGBA", size, (*text.paper, 255))
        ImageDraw.Draw(surface).multiline_text(
            (edge - left, edge - top), text.lines, (*text.ink, 255), font, spacing=height
        )
        surface = surface.rotate(text.degrees, Image.Resampling.BICUBIC, expand=True)
        surface = surface.resize((surface.width // 2, surface.height // 2), Image.Resampling.BOX)
        picture = Image.fromarray(photo)
        at = [
            int(random.integers(min(0, free), max(0, free) + 1))
            for free in np.subtract(picture.size, surface.size)
        ]
        picture.paste(surface, (at[0], at[1]), surface)
        return np.asarray(picture)

    def _text(
        self, kind: str, random: np.random.Generator, font: str, room: tuple[int, int]
    ) -> Text:
        """room: how many lines, and letters in each, the photograph has."""
        bright: Colour = tuple(map(int, random.integers(150, 256, 3)))
        dark: Colour = tuple(map(int, random.integers(0, 90, 3)))
        if kind == "plate":
            number = "".join(random.choice(PLATE, 6))
            paper = (250, 250, 245) if random.random() < 0.5 else (245, 200, 40)
            return Text(f"{number[:2]} {number[2:]}", paper, (15, 15, 20), random.uniform(-6, 6))
        count = int(random.integers(1, 4)) if kind == "sign" else int(random.integers(4, 9))
        numbers = {"sign": 0.1, "document": 0.1, "screen": 0.4}[kind]
        size = (max(1, min(count, room[0])), max(8, room[1]))
        lines = self._lines(random, font, size, numbers)
        if kind == "document":
            grey = int(random.integers(215, 256))
            return Text(lines, (grey, grey, grey), (25, 25, 25), random.uniform(-3, 3))
        paper, ink = (bright, dark) if random.random() < 0.5 else (dark, bright)
        return Text(lines, paper, ink, random.uniform(-6, 6) if kind == "sign" else 0.0)

    def _lines(
        self, random: np.random.Generator, font: str, size: tuple[int, int], numbers: float
    ) -> str:
        """So many lines of so many letters at most, with a share of numbers."""
        count, letters = size
        lines = []
        for _ in range(count):
            line: list[str] = []
            most = letters * random.uniform(0.3, 0.8)
            while not line or len(" ".join(line)) < most:
                line.append(self._number(random) if random.random() < numbers else "")
                while not line[-1]:
                    word = self.words[random.integers(len(self.words))]
                    line[-1] = word if _letters(font).issuperset(map(ord, word)) else ""
            joined = " ".join(line[:-1] if len(line) > 1 else line)
            lines.append(joined.upper() if count < 4 and random.random() < 0.4 else joined)
        return "\n".join(lines)

    @staticmethod
    def _number(random: np.random.Generator) -> str:
        """A price, a year, a time, a dose."""
        figure = int(random.integers(1, 2100))
        forms = (f"{figure / 100:.2f}", f"{figure}", f"{figure % 24}:{figure % 60:02}")
        return forms[random.integers(len(forms))]
