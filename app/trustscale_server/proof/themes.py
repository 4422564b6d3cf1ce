"""The colours around a picture that people share, on light or dark paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from trustscale_server.proof.lettering import Colour

Theme = Literal["light", "dark"]


@dataclass(frozen=True, slots=True)
class ThemeColours:
    """The colours of one theme.

    Beside those of paper, letters and lines, doubt marks, and amber says that nothing is promised.
    """

    paper: Colour
    ink: Colour
    soft: Colour
    line: Colour
    doubt: Colour
    amber: Colour


THEMES: Final[dict[Theme, ThemeColours]] = {
    "light": ThemeColours(
        paper=(250, 250, 247),
        ink=(22, 25, 28),
        soft=(94, 98, 102),
        line=(205, 206, 203),
        doubt=(224, 0, 140),
        amber=(138, 84, 0),
    ),
    "dark": ThemeColours(
        paper=(17, 17, 17),
        ink=(244, 244, 240),
        soft=(164, 167, 168),
        line=(74, 76, 78),
        doubt=(255, 92, 178),
        amber=(255, 190, 92),
    ),
}
