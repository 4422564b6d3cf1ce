"""The card of a stored answer as a file: drawn from the picture, the mask and the plain layer."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import IO, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.images.card import Theme, card, strip_colour
from trustscale_server.images.encode import FORMS, Attached
from trustscale_server.images.marked import write_marked
from trustscale_server.images.marks import pixel_digest
from trustscale_server.images.metadata import marks_of
from trustscale_server.images.overlay import opaque_part
from trustscale_server.images.png import to_bytes
from trustscale_server.serving.caption import CardContent, Look, caption_of
from trustscale_server.serving.credentials import Credentials, parent_of
from trustscale_server.serving.document import MASK, Result
from trustscale_server.serving.pictures import (
    ChosenForm,
    faded,
    hatched,
    image_file,
    mark_under,
    pixels_of,
    read_mask,
)
from trustscale_server.stores.spool import spooled

CardForm = Literal["png", "webp", "jpeg"]

_QUALITY: Final = 92
_LATE: Final = (
    "α = {alpha:.3g} was chosen after the picture was made, by a calibration that promises nothing "
    "then."
)


@dataclass(frozen=True, slots=True)
class CardWish:
    """A card as it is asked for.

    alpha: of its mask. look: of what cannot be relied on. theme: of the strip.
    """

    alpha: float
    form: CardForm = "png"
    look: Look = "soft"
    theme: Theme = "light"


def write_card(
    out: IO[bytes], result: Result, wish: CardWish, image: bytes, mask: bytes, rest: bytes
) -> None:
    """Write the card of an answer.

    image: the stored picture. mask: of the wish's α, with its text. rest: the plain layer.

    Raises BadRequest: the form cannot hold so large a card.
    """
    trusted, text = read_mask(mask)
    with Image.open(io.BytesIO(image)) as picture:
        pixels, metadata = pixels_of(picture), marks_of(picture)
    mark = mark_under(result, text, "card", trusted, opaque_part(pixels))
    share = 0.0 if mark.share is None else mark.share
    drawn = (
        hatched(pixels, trusted)
        if wish.look == "hatched"
        else faded(pixels, trusted, rest, mark.scale)
    )
    is_data = result.raster is not None and result.raster.stretch is not None
    content = CardContent(
        upscaler=result.upscaler,
        scale=mark.scale,
        upload=mark.upload,
        alpha=wish.alpha,
        share=share,
        about=mark.about,
        digest="" if is_data else pixel_digest(pixels),
        why_not=_why_not(result, wish.alpha),
        words=_words(result, wish.alpha),
        held=None if result.added is None else result.added.held,
        left_out=Counter(place.kind for place in result.left_out),
    )
    frames = [place.bounds for place in result.left_out]
    drawn_card = card(drawn, caption_of(content, wish.look), theme=wish.theme, frames=frames)
    if wish.form == "jpeg":
        drawn_card = _on_paper(drawn_card, strip_colour(wish.theme))
    ChosenForm(wish.form, None).raise_if_impossible(
        max(drawn_card.shape[:2]), transparent=drawn_card.shape[2] == 4
    )
    mark = replace(mark, picture=content.digest, rows=len(pixels))
    quality = None if wish.form == "png" else _QUALITY
    attached = Attached(text, metadata)
    write_marked(out, drawn_card, wish.form, mark, quality=quality, attached=attached)


def _statement(result: Result, wish: CardWish) -> dict[str, Any]:
    """What the signature of a card says."""
    fields = {"id", "upscaler", "calibration", "group", "input_class", "samples", "seed"}
    if wish.alpha == result.alpha:
        fields |= {"alpha", "threshold", "trusted_fraction", "guarantee", "warnings"}
        return result.model_dump(mode="json", include=fields)
    return {**result.model_dump(mode="json", include=fields), "alpha": wish.alpha}


def _words(result: Result, alpha: float) -> tuple[int, int] | None:
    """How many words are called right at α, and how many there are."""
    if result.words is None:
        return None
    levels = [word.trust_level for word in result.words]
    return sum(level is not None and level <= alpha for level in levels), len(levels)


def _why_not(result: Result, alpha: float) -> str:
    """Why nothing is promised of a mask of this α; empty: something is."""
    promise = result.guarantee
    if not promise.promised:
        is_empty = promise.plain.startswith("Nothing is trusted")
        return (
            f"Nothing in it can be relied on at α = {alpha:.3g}."
            if is_empty
            else "Too little was measured on pictures like it."
        )
    if alpha != result.alpha and promise.kind != "post_hoc":
        return _LATE.format(alpha=alpha)
    return ""


def _on_paper(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Uint8 [H, W, 3]: transparent parts show the paper of the strip."""
    if pixels.shape[2] == 3:
        return pixels
    image = Image.fromarray(pixels)
    behind = Image.new("RGBA", image.size, (*colour, 255))
    return np.asarray(Image.alpha_composite(behind, image).convert("RGB"))


def card_of(
    result: Result,
    wish: CardWish,
    image: bytes,
    mask: bytes,
    rest: bytes,
    credentials: Credentials | None,
) -> bytes:
    """Return the file of `write_card`, signed where there are credentials.

    Its parent is the picture with its own.
    """
    card = to_bytes(write_card)(result, wish, image, mask, rest)
    if credentials is None:
        return card
    parent, _ = parent_of(image, result.format)
    signed = io.BytesIO()
    credentials.sign(
        signed,
        io.BytesIO(card),
        FORMS[wish.form].media_type,
        upload=parent,
        mask=io.BytesIO(mask),
        promise=_statement(result, wish),
    )
    return signed.getvalue()


def png_card(
    result: Result, files: Mapping[str, IO[bytes]], rest: bytes, credentials: Credentials | None
) -> IO[bytes]:
    """Return the card of an answer whose files were just made, as a file; see `spooled`."""
    image, mask = (_content(files[name]) for name in (image_file(result), MASK))
    card = card_of(result, CardWish(result.alpha), image, mask, rest, credentials)
    return spooled(lambda out: out.write(card))


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    data = file.read()
    file.seek(0)
    return data
