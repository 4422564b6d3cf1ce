"""What a card says below its picture, and what the mark in a file says, from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from trustscale_server.images.card import BarSegment, Caption
from trustscale_server.images.marks import check_number, percent, relied
from trustscale_server.serving.added import LITTLE

Look = Literal["soft", "hatched"]
"""How a card shows what cannot be relied on."""

_ABOUT: Final[Mapping[str | None, str]] = {
    "ssim": "for structure",
    "stretch": "for its values",
    "label": "by people's judgement",
    "words": "for its words",
}
_COLOUR: Final = "for colour"


def about(error_unit: str | None) -> str:
    """Return what a mask speaks about, by the unit of its error (`Guarantee.error_unit`)."""
    return _ABOUT.get(error_unit, _COLOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardContent:
    """What a card tells.

    share: of the opaque pixels that is trusted at `alpha`, about what `about` says.
    words: how many words are called right, and how many there are; None: it is about pixels.
    why_not: why nothing is promised; empty: something is. upload: width and height.
    digest: of the picture's pixels; empty: unknown. left_out: what was left out of the mask, by
    kind, such as "face", with how many there are. held: the share of the added detail that holds
    up; None: nothing is known of it.
    """

    upscaler: str
    scale: float
    upload: tuple[int, int]
    alpha: float
    share: float
    about: str
    digest: str = ""
    why_not: str = ""
    words: tuple[int, int] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    held: float | None = None


def caption_of(content: CardContent, look: Look) -> Caption:
    """Return what a card says, and its bar."""
    bar: Sequence[BarSegment] = (
        BarSegment(content.share, "solid"),
        BarSegment(1 - content.share, "doubtful"),
    )
    lead = f"{relied(content.share, content.about)}."
    text = f"It is {look} where the model may have made it up."
    if content.words is not None:
        right, all_of_them = content.words
        lead = f"{right} of {all_of_them} words in it were called right."
        text = f"It is {look} elsewhere: nothing is said of that."
    if content.share == 0:
        text = "The model may have made up any of it."
    if content.held is not None:
        share = percent(content.held) if content.held >= LITTLE else "next to nothing"
        text = f"Of the detail that the model added, {share} holds up. {text}"
    if content.why_not:
        bar = ()
        lead, text = "No promise for this picture.", content.why_not
    if faces := content.left_out.get("face", 0):
        who, this = ("a face", "this is") if faces == 1 else ("faces", "these are")
        text += f" Framed: {who}; nobody can promise who {this}."
    width, height = content.upload
    how = f"Enlarged ×{content.scale:.3g}" if content.scale > 1 else "Restored"
    origin = f"{how} from {width} × {height} by {content.upscaler} · α = {content.alpha:.3g}"
    number = check_number(content.digest)
    return Caption(
        lead=lead,
        text=text,
        origin=origin,
        check=f"Trustscale {number}".strip(),
        bar=bar,
        is_warning=bool(content.why_not),
    )
