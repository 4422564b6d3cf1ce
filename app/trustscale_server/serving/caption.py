"""What a card says below its picture, and what the mark in a file says, from plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trustscale_server.proof.card import BarSegment, Caption
from trustscale_server.proof.marks import percent, relied
from trustscale_server.proof.pixel_digest import check_number
from trustscale_server.serving.added import LITTLE

Look = Literal["soft", "hatched"]
"""How a card shows what cannot be relied on."""


def about(error_unit: str | None) -> str:
    """Return what a mask speaks about, by the unit of its error (`Guarantee.error_unit`)."""
    match error_unit:
        case "ssim":
            return "for structure"
        case "stretch":
            return "for its values"
        case "label":
            return "by people's judgement"
        case "words":
            return "for its words"
        case _:
            return "for colour"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardContent:
    """What a card tells.

    share: of the opaque pixels that is trusted at `alpha`, about what `about` says.
    words: how many words are called right, and how many there are; None: it is about pixels.
    why_not: why nothing is promised; empty: something is. upload: width and height.
    digest: of the picture's pixels; empty: unknown. faces: how many were left out of the mask.
    held: the share of the added detail that holds up; None: nothing is known of it.
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
    faces: int = 0
    held: float | None = None


def caption_of(content: CardContent, look: Look) -> Caption:
    """Return what a card says, and its bar."""
    lead, text = _promised(content, look)
    bar: Sequence[BarSegment] = (
        BarSegment(content.share, "solid"),
        BarSegment(1 - content.share, "doubtful"),
    )
    if content.why_not:
        lead, text, bar = "No promise for this picture.", content.why_not, ()
    if content.faces:
        who, this = ("a face", "this is") if content.faces == 1 else ("faces", "these are")
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


def _promised(content: CardContent, look: Look) -> tuple[str, str]:
    """The first sentence and the rest, where something is promised."""
    lead = f"{relied(content.share, content.about)}."
    text = f"It is {look} where the model may have made it up."
    if content.words is not None:
        right, number = content.words
        lead = f"{right} of {number} words in it were called right."
        text = f"It is {look} elsewhere: nothing is said of that."
    if content.share == 0:
        text = "The model may have made up any of it."
    if content.held is not None:
        share = percent(content.held) if content.held >= LITTLE else "next to nothing"
        text = f"Of the detail that the model added, {share} holds up. {text}"
    return lead, text
