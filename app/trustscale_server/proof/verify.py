"""Whether a file has our mark, and whether its pixels are still the same.

A pure function of the file's bytes. A signature (C2PA) proves who signed; a mark in XMP proves
nothing, since anybody can write one. Of files without a mark nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, NamedTuple
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from trustscale_server.images.decoding.damage import refusing_damage
from trustscale_server.images.decoding.header import image_size, open_image
from trustscale_server.images.limits import Limits, admit_pixels
from trustscale_server.images.xmp import packet_of, texts_of
from trustscale_server.proof.card_recognition import resembles_card
from trustscale_server.proof.changes import (
    PIXELS_UNCHANGED,
    PIXELS_UNKNOWN,
    PixelChange,
    PixelState,
    change_since,
)
from trustscale_server.proof.marks import Mark, PictureKind, mark_in, relied
from trustscale_server.proof.pixel_digest import colours_of
from trustscale_server.proof.signature import (
    NOBODY,
    Signature,
    SignatureState,
    Signers,
    one_line,
    signature_of,
)

VERIFIED_LIMITS: Final = Limits(max_bytes=256 * 2**20, max_pixels=128 * 2**20)
"""Of an answer, which is much larger than an upload."""

NO_MARK: Final = "No mark of ours."


@dataclass(frozen=True, slots=True)
class Verification:
    """What can be told of one file; nothing of what a mark says is proven unless it is signed."""

    mark: Annotated[
        Literal["none", "xmp", "signed"],
        Field(description="Where a mark of ours was found; none: nowhere."),
    ]
    what: Annotated[str, Field(description="What it is, in a sentence.")]
    sentences: Annotated[list[str], Field(description="All that is told, for people.")]
    kind: Annotated[
        PictureKind | None,
        Field(
            description="The picture as its model made it; `believed` and `overlay`: with its "
            "doubtful part soft or hatched; `card`: with a caption below."
        ),
    ] = None
    upscaler: str | None = None
    scale: float | None = None
    upload: Annotated[
        list[int] | None, Field(description="Width and height of what was enlarged.")
    ] = None
    alpha: float | None = None
    trusted_fraction: float | None = None
    promise: str | None = None
    source_type: Annotated[
        str | None,
        Field(description="IPTC's term for its digital source."),
    ] = None
    pixels: Annotated[
        PixelState | None,
        Field(
            description="Compared with the ones that were marked: `unchanged`; `saved_again` or "
            "`resized`: the same to the eye; `cropped`: a part, or of another shape; `changed`; "
            "`unknown`: it cannot be told."
        ),
    ] = None
    changed: Annotated[
        list[float] | None,
        Field(
            description="Where it was changed: left, top, right and bottom as shares of the sides."
        ),
    ] = None
    signed: Annotated[
        SignatureState,
        Field(
            description="`valid`: by somebody; `known`: by a signer that this service knows; "
            "`invalid`: the file was changed after it was signed."
        ),
    ] = "no"
    signed_by: str | None = None
    check: Annotated[
        str | None,
        Field(description="The number of the picture, which stands in the caption of its card."),
    ] = None

    @property
    def holds(self) -> bool:
        """Whether it is a file of ours with exactly the pixels that were marked."""
        return self.mark != "none" and self.pixels == "unchanged" and self.signed != "invalid"


def verify(
    data: bytes, limits: Limits = VERIFIED_LIMITS, *, known: Signers = NOBODY
) -> Verification:
    """Return what can be told of a file.

    Raises ImageTooLarge, UnsupportedMedia, BadImage: it is no image, or damaged.
    """
    admit_pixels(math.prod(image_size(data, limits)))
    image = open_image(data, limits)
    with refusing_damage("The image is damaged"):
        mark = mark_in(_texts_of(image))
        signature = signature_of(data, str(image.format), known)
        # Marks have no digest of pixels of more than 8 bits.
        pixels = None if image.mode.startswith(("I", "F")) else colours_of(image)
        has_mask = image.format == "TIFF" and _has_second_page(image)
    if mark is None and signature is None:
        return _unmarked(pixels)
    change = PIXELS_UNKNOWN
    if mark is not None and pixels is not None:
        change = change_since(mark, pixels)
    elif signature is not None and signature.is_valid and signature.is_last:
        change = PIXELS_UNCHANGED
    return _verification(mark, signature, change, has_mask=has_mask and mark is not None)


def _texts_of(image: Image.Image) -> dict[str, str]:
    """The plain texts of a file's XMP by their full names; empty if it is damaged."""
    with suppress(ParseError, ValueError):
        return texts_of(packet_of(image))
    return {}


def _has_second_page(image: Image.Image) -> bool:
    """Whether a TIFF file has one, which Pillow may not know how to read."""
    try:
        image.seek(1)
    except EOFError:
        return False
    except SyntaxError:  # a page that is a mask
        return True
    return True


def _unmarked(pixels: NDArray[np.uint8] | None) -> Verification:
    if pixels is not None and resembles_card(pixels):
        more = (
            "It looks like one of our cards that has lost its mark, but anybody can draw such a "
            "strip. Ask for the file as it was made, and compare the number in the strip with the "
            "one that is said of it here."
        )
    else:
        more = (
            "That says nothing about the picture: mail, messengers and many programs remove marks, "
            "and so can anybody."
        )
    return Verification("none", NO_MARK, [NO_MARK, more])


def _verification(
    mark: Mark | None, signature: Signature | None, change: PixelChange, *, has_mask: bool
) -> Verification:
    """What the mark, the signature and the comparison say, in fields and in words."""
    claim = _claim(mark, signature)
    what = _what(mark)
    sentences = [what, *_reliable(mark, claim, has_mask=has_mask)]
    if claim.promise:
        sentences.append(f"Its promise: {claim.promise}")
    sentences += [change.sentence, _who_signed(signature)]
    if has_mask:
        sentences.append("The second page of the file shows which part that is.")
    if change.state in {"cropped", "changed", "resized"}:
        sentences.append("Share and promise are about the picture before that.")
    is_signed = signature is not None and signature.is_valid
    return Verification(
        mark="signed" if is_signed else "xmp" if mark is not None else "none",
        what=what,
        sentences=sentences,
        alpha=claim.alpha,
        trusted_fraction=claim.share,
        promise=claim.promise or None,
        pixels=change.state,
        changed=None if change.box is None else list(change.box),
        signed=signature.state if signature is not None else "no",
        signed_by=signature.by if signature is not None else None,
        **_marked(mark),
    )


def _marked(mark: Mark | None) -> Mapping[str, Any]:
    """The fields that only the mark fills in."""
    if mark is None:
        return {}
    return {
        "kind": mark.kind,
        "upscaler": one_line(mark.upscaler),
        "scale": mark.scale,
        "upload": list(mark.upload),
        "source_type": one_line(mark.source_type),
        "check": one_line(mark.check),
    }


class _Claim(NamedTuple):
    """What is claimed of a picture: α, the share that can be relied on, and the promise."""

    alpha: float | None
    share: float | None
    promise: str


def _claim(mark: Mark | None, signature: Signature | None) -> _Claim:
    """What was signed is believed rather than what was only written."""
    written = _Claim(None, None, "")
    if mark is not None:
        written = _Claim(mark.alpha, mark.share, one_line(mark.promise))
    if signature is None or not signature.is_valid:
        return written
    signed = signature.promise
    guarantee = signed.get("guarantee")
    plain = guarantee.get("plain", "") if isinstance(guarantee, dict) else ""
    return _Claim(
        _number(signed.get("alpha"), written.alpha),
        _number(signed.get("trusted_fraction"), written.share),
        one_line(plain) or written.promise,
    )


def _number(value: object, default: float | None) -> float | None:
    return float(value) if isinstance(value, int | float) else default


def _reliable(mark: Mark | None, claim: _Claim, *, has_mask: bool) -> list[str]:
    """A sentence on how much of the picture can be relied on, if there is one."""
    if claim.share is not None and claim.alpha is not None:
        about = one_line(mark.about) if mark is not None else ""
        return [f"{relied(claim.share, about)}, at an accepted error of {claim.alpha:.3g}."]
    if mark is None:
        return []
    if claim.alpha is None:
        return ["It was asked for without a mark of what can be relied on."]
    if mark.kind == "picture" and not has_mask:
        return ["Which part of it can be relied on is not in this file."]
    return []


_KINDS: Final = {
    "picture": "A picture",
    "safe": "A picture, with its model's detail in proportion to how real it probably is,",
    "believed": "A picture, soft where its model may have made it up,",
    "overlay": "A picture, hatched where its model may have made it up,",
    "card": "A card: a picture with a caption,",
}


def _what(mark: Mark | None) -> str:
    if mark is None:
        return "A picture that Trustscale signed."
    width, height = mark.upload
    process = f"enlarged ×{mark.scale:g}" if mark.scale > 1 else "restored"
    model = f" by {one_line(mark.upscaler)}" if mark.upscaler else ""
    return f"{_KINDS[mark.kind]} {process} from {width} × {height} pixels{model}."


def _who_signed(signature: Signature | None) -> str:
    if signature is None:
        return "Nobody signed it: anybody can write such a mark."
    signer = f"“{signature.by}”" if signature.by else "somebody who is not named"
    match signature.state:
        case "known":
            return f"Signed by {signer}, whom this service knows."
        case "valid" if signature.is_last:
            return f"Signed by {signer}. Whether they are who they say was not checked."
        case "valid":
            return (
                f"Signed by {signer}, and edited after that by a program that says so: the promise "
                "is about the picture before."
            )
        case _:
            return (
                f"The signature of {signer} does not fit: the file was changed after it was signed."
            )
