"""The card of a stored answer as a file: drawn from the picture, the mask and the plain layer."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.images.encoding.encode import PICTURE_FORMATS
from trustscale_server.images.encoding.png import to_bytes
from trustscale_server.proof.card import card
from trustscale_server.proof.marked import write_marked
from trustscale_server.proof.marks import Mark
from trustscale_server.proof.pixel_digest import pixel_digest
from trustscale_server.proof.themes import THEMES, Theme
from trustscale_server.serving.caption import CardContent, Look, caption_of
from trustscale_server.serving.credentials import Credentials, parent_of
from trustscale_server.serving.document import Result
from trustscale_server.serving.drawings import MaskedPicture, faded, hatched
from trustscale_server.serving.file_names import MASK
from trustscale_server.serving.picture_format import ChosenFormat
from trustscale_server.serving.plain import NOTHING
from trustscale_server.serving.stored_answer import image_file
from trustscale_server.stores.spool import spooled

CardFormat = Literal["png", "webp", "jpeg"]


@dataclass(frozen=True, slots=True)
class CardOptions:
    """A card as it is asked for.

    alpha: of its mask. look: of what cannot be relied on. theme: of the strip.
    """

    alpha: float
    file_format: CardFormat = "png"
    look: Look = "soft"
    theme: Theme = "light"


def write_card(
    out: IO[bytes], result: Result, options: CardOptions, image: bytes, mask: bytes, rest: bytes
) -> None:
    """Write the card of an answer.

    image: the stored picture. mask: of the options' α, with its text. rest: the plain layer.

    Raises BadRequest: the format cannot hold so large a card.
    """
    stored = MaskedPicture.from_files(image, mask)
    mark = stored.mark(result, "card")
    content = _content(result, mark, options.alpha, stored.pixels)
    if options.look == "hatched":
        drawn = hatched(stored.pixels, stored.trusted)
    else:
        drawn = faded(stored.pixels, stored.trusted, rest, mark.scale)
    frames = [place.bounds for place in result.left_out]
    drawn_card = card(drawn, caption_of(content, options.look), theme=options.theme, frames=frames)
    if options.file_format == "jpeg":
        drawn_card = _on_paper(drawn_card, THEMES[options.theme].paper)
    ChosenFormat(options.file_format, None).raise_if_impossible(
        max(drawn_card.shape[:2]), transparent=drawn_card.shape[2] == 4
    )
    mark = replace(mark, picture=content.digest, rows=len(stored.pixels))
    quality = None if options.file_format == "png" else 92
    write_marked(
        out, drawn_card, options.file_format, mark, quality=quality, attached=stored.attached
    )


def _content(result: Result, mark: Mark, alpha: float, pixels: NDArray[np.uint8]) -> CardContent:
    """What the card of a mask of this α tells."""
    is_data = result.raster is not None and result.raster.stretch is not None
    return CardContent(
        upscaler=result.upscaler,
        scale=mark.scale,
        upload=mark.upload,
        alpha=alpha,
        share=0.0 if mark.share is None else mark.share,
        about=mark.about,
        digest="" if is_data else pixel_digest(pixels),
        why_not=_why_not(result, alpha),
        words=_words(result, alpha),
        held=None if result.added is None else result.added.held,
        faces=sum(place.kind == "face" for place in result.left_out),
    )


def _statement(result: Result, options: CardOptions) -> dict[str, Any]:
    """What the signature of a card says."""
    fields = {"id", "upscaler", "calibration", "group", "input_class", "samples", "seed"}
    if options.alpha == result.alpha:
        fields |= {"alpha", "threshold", "trusted_fraction", "guarantee", "warnings"}
        return result.model_dump(mode="json", include=fields)
    return {**result.model_dump(mode="json", include=fields), "alpha": options.alpha}


def _words(result: Result, alpha: float) -> tuple[int, int] | None:
    """How many words are called right at α, and how many there are."""
    if result.words is None:
        return None
    levels = [word.trust_level for word in result.words]
    return sum(level is not None and level <= alpha for level in levels), len(levels)


def _why_not(result: Result, alpha: float) -> str:
    """Why nothing is promised of a mask of this α; empty: something is."""
    promise = result.guarantee
    if not promise.promised and promise.plain.startswith(NOTHING):
        return f"Nothing in it can be relied on at α = {alpha:.3g}."
    if not promise.promised:
        return "Too little was measured on pictures like it."
    if alpha != result.alpha and promise.kind != "post_hoc":
        return (
            f"α = {alpha:.3g} was chosen after the picture was made, by a calibration that "
            "promises nothing then."
        )
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
    options: CardOptions,
    image: bytes,
    mask: bytes,
    rest: bytes,
    credentials: Credentials | None,
) -> bytes:
    """Return the file of `write_card`, signed where there are credentials.

    The parent of a signed card is the picture, with the picture's own credentials.
    """
    card = to_bytes(write_card)(result, options, image, mask, rest)
    if credentials is None:
        return card
    parent, _ = parent_of(image, result.format)
    signed = io.BytesIO()
    credentials.sign(
        signed,
        io.BytesIO(card),
        PICTURE_FORMATS[options.file_format].media_type,
        upload=parent,
        mask=io.BytesIO(mask),
        promise=_statement(result, options),
    )
    return signed.getvalue()


def png_card(
    result: Result, files: Mapping[str, IO[bytes]], rest: bytes, credentials: Credentials | None
) -> IO[bytes]:
    """Return the card of an answer whose files were just made, as a file; see `spooled`."""
    image, mask = (_read(files[name]) for name in (image_file(result), MASK))
    card = card_of(result, CardOptions(result.alpha), image, mask, rest, credentials)
    return spooled(lambda out: out.write(card))


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    data = file.read()
    file.seek(0)
    return data
