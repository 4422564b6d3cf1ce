"""Whether a file has our mark, and whether its pixels are still the same.

A pure function of the file's bytes. A signature (C2PA) proves who signed; a mark in XMP proves
nothing, since anybody can write one. Of files without a mark nothing is said.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from xml.etree.ElementTree import ParseError

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from trustscale_server.images.card import resembles_card
from trustscale_server.images.damage import refusing_damage
from trustscale_server.images.header import image_size, open_image
from trustscale_server.images.limits import Limits, admit_pixels
from trustscale_server.images.marks import (
    Mark,
    PictureKind,
    coarse_copy,
    differences,
    mark_in,
    pixel_digest,
    relied,
)
from trustscale_server.images.xmp import texts_of
from trustscale_server.pixels.boxes import Box
from trustscale_server.platform.errors import ConfigError

_PixelState = Literal["unchanged", "saved_again", "resized", "cropped", "changed", "unknown"]
"""As marked; the same to the eye; the same in another size; a part; other; not to be told."""

_Signed = Literal["no", "valid", "known", "invalid"]
"""Not at all; by somebody; by a signer that the caller knows; but the file was changed since."""

_PROMISE: Final = "org.trustscale.guarantee"  # the assertion of `serving/credentials.py`
_GENERATOR: Final = "trustscale"

# Steps of lightness, of 255, in a cell of the coarse copy: compression at quality 30 stays below.
_SAME: Final = 6
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_LONGEST: Final = 2000  # characters of a text from the file


def _about(text: str) -> Any:
    return Field(description=text)


@dataclass(frozen=True, slots=True)
class Verification:
    """What can be told of one file; nothing of what a mark says is proven unless it is signed."""

    mark: Annotated[
        Literal["none", "xmp", "signed"], _about("Where a mark of ours was found; none: nowhere.")
    ]
    what: Annotated[str, _about("What it is, in a sentence.")]
    sentences: Annotated[list[str], _about("All that is told, for people.")]
    kind: Annotated[
        PictureKind | None,
        _about(
            "The picture as its model made it; `believed` and `overlay`: with its doubtful part "
            "soft or hatched; `card`: with a caption below."
        ),
    ] = None
    upscaler: str | None = None
    scale: float | None = None
    upload: Annotated[list[int] | None, _about("Width and height of what was enlarged.")] = None
    alpha: float | None = None
    trusted_fraction: float | None = None
    promise: str | None = None
    source_type: Annotated[str | None, _about("IPTC's term for its digital source.")] = None
    pixels: Annotated[
        _PixelState | None,
        _about(
            "Compared with the ones that were marked: `unchanged`; `saved_again` or `resized`: the "
            "same to the eye; `cropped`: a part, or of another shape; `changed`; `unknown`: it "
            "cannot be told."
        ),
    ] = None
    changed: Annotated[
        list[float] | None,
        _about("Where it was changed: left, top, right and bottom as shares of the sides."),
    ] = None
    signed: Annotated[
        _Signed,
        _about(
            "`valid`: by somebody; `known`: by a signer that this service knows; `invalid`: the "
            "file was changed after it was signed."
        ),
    ] = "no"
    signed_by: str | None = None
    check: Annotated[
        str | None, _about("The number of the picture, which stands in the caption of its card.")
    ] = None

    @property
    def holds(self) -> bool:
        """Whether it is a file of ours with exactly the pixels that were marked."""
        return self.mark != "none" and self.pixels == "unchanged" and self.signed != "invalid"


@dataclass(frozen=True, slots=True)
class _Signature:
    """What the content credentials say. ours: whether our manifest is the last one."""

    signed: _Signed
    by: str
    promise: Mapping[str, Any]
    is_last: bool


NO_MARK: Final = "No mark of ours."
_NOTHING: Final = (
    "That says nothing about the picture: mail, messengers and many programs remove marks, and so "
    "can anybody."
)
_LIKE_CARD: Final = (
    "It looks like one of our cards that has lost its mark, but anybody can draw such a strip. Ask "
    "for the file as it was made, and compare the number in the strip with the one that is said of "
    "it here."
)


VERIFIED_LIMITS: Final = Limits(max_bytes=256 * 2**20, max_pixels=128 * 2**20)
"""Of an answer, which is much larger than an upload."""


@dataclass(frozen=True, slots=True)
class Signers:
    """Signers that the caller knows: certificates (PEM), and the serial numbers of all."""

    certificates: str = ""
    serials: tuple[str, ...] = ()


NOBODY: Final = Signers()


def signers_of(certificates: str) -> Signers:
    """Read certificates (PEM), each signer's with its issuers'.

    Raises ConfigError: the extra is missing, or there are none.
    """
    try:
        from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "Signatures need the extra: pip install 'trustscale[credentials]'."
        ) from error
    try:
        issued = load_pem_x509_certificates(certificates.encode())
    except ValueError:
        raise ConfigError("A signer's certificate must be PEM.") from None
    return Signers(certificates, tuple(str(certificate.serial_number) for certificate in issued))


@dataclass(frozen=True, slots=True)
class _Compared:
    """How pixels differ from the marked ones. box: as `Verification.changed`."""

    state: _PixelState
    sentence: str = ""
    box: Box | None = None


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
        signature = _signature(data, str(image.format), known)
        pixels = _pixels_of(image)
        has_mask = image.format == "TIFF" and _has_second_page(image)
    if mark is None and signature is None:
        is_like_card = pixels is not None and resembles_card(pixels)
        return Verification("none", NO_MARK, [NO_MARK, _LIKE_CARD if is_like_card else _NOTHING])
    compared = _Compared("unknown")
    if mark is not None and pixels is not None:
        compared = _compared(mark, pixels)
    elif signature is not None and signature.signed in ("valid", "known") and signature.is_last:
        compared = _Compared("unchanged")
    return _verification(mark, signature, compared, has_mask=has_mask and mark is not None)


def _has_second_page(image: Image.Image) -> bool:
    """Whether a TIFF file has one, which Pillow may not know how to read."""
    try:
        image.seek(1)
    except EOFError:
        return False
    except SyntaxError:  # a page that is a mask
        return True
    return True


def _texts_of(image: Image.Image) -> dict[str, str]:
    """The plain texts of a file's XMP by their full names; empty if it is damaged."""
    packet = image.info.get("xmp", b"")
    with suppress(ParseError, ValueError):
        return texts_of(packet.encode() if isinstance(packet, str) else bytes(packet))
    return {}


def _pixels_of(image: Image.Image) -> NDArray[np.uint8] | None:
    """The pixels as they were marked; None: of more than 8 bits."""
    if image.mode.startswith(("I", "F")):
        return None
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _compared(mark: Mark, pixels: NDArray[np.uint8]) -> _Compared:
    """Compare pixels, uint8 [H, W, 3 or 4], with those of a mark."""
    if not mark.pixels:
        return _Compared("unknown")
    if pixel_digest(pixels) == mark.pixels:
        return _Compared("unchanged")
    height, width = pixels.shape[:2]
    if not _has_shape(width, height, *mark.size):
        if mark.rows and _has_shape(width, height, mark.size[0], mark.rows):
            return _Compared("cropped", "Its caption was cut off.")
        was = f"{mark.size[0]} × {mark.size[1]} pixels, now {width} × {height}"
        return _Compared(
            "cropped",
            f"It has another shape than what was marked ({was}): it was cropped, turned "
            "or stretched.",
        )
    return _seen(mark, (width, height), differences(coarse_copy(pixels), mark.look))


def _seen(mark: Mark, size: tuple[int, int], difference: NDArray[np.int_] | None) -> _Compared:
    """Judge by how much the cells of the coarse copies differ."""
    if difference is None:
        return _Compared("unknown")
    if difference.max() <= _SAME:
        return _Compared("saved_again" if size == mark.size else "resized")
    rows, columns = np.nonzero(difference > _SAME)
    cells = len(difference)
    left, right = float(columns.min() / cells), float((columns.max() + 1) / cells)
    top, bottom = float(rows.min() / cells), float((rows.max() + 1) / cells)
    if (right - left) * (bottom - top) < 0.5:
        where = (
            f"at about {round(50 * (left + right))} % of its width and "
            f"{round(50 * (top + bottom))} % of its height"
        )
    elif size != mark.size:
        return _Compared("cropped", "It shows something else than what was marked: it was cropped.")
    else:
        where = "in most of it"
    sentence = f"It was changed after it was marked, {where}."
    return _Compared("changed", sentence, (left, top, right, bottom))


def _has_shape(width: int, height: int, of_width: int, of_height: int) -> bool:
    """Whether the sides have this ratio, but for rounding to whole pixels."""
    return of_height > 0 and (
        abs(width * of_height / (height * of_width) - 1) <= 1 / min(width, height)
    )


def _signature(data: bytes, form: str, known: Signers) -> _Signature | None:
    """The content credentials, if one of the manifests is ours; None also without the extra."""
    with suppress(ImportError):
        import c2pa  # noqa: PLC0415 - an extra

        settings = {"verify": {"remote_manifest_fetch": False, "verify_trust": True}}
        issuers = known.certificates
        trust = {"trust": {"trust_anchors": issuers}} if issuers else {}
        try:
            with c2pa.Context(c2pa.Settings.from_dict({**settings, **trust})) as context:
                reader = c2pa.Reader.try_create(
                    f"image/{form.lower()}", io.BytesIO(data), context=context
                )
                if reader is None:
                    return None
                with reader:
                    return _read_manifests(json.loads(reader.json()), known)
        except c2pa.C2paError:
            return None
    return None


def _read_manifests(store: Mapping[str, Any], known: Signers) -> _Signature | None:
    manifests = store.get("manifests", {})
    last = store.get("active_manifest")
    ours = [
        name
        for name, manifest in manifests.items()
        if any(info.get("name") == _GENERATOR for info in manifest.get("claim_generator_info", ()))
    ]
    if not ours:
        return None
    name = last if last in ours else ours[-1]
    manifest = manifests[name]
    promise: dict[str, Any] = next(
        (
            assertion["data"]
            for assertion in manifest.get("assertions", ())
            if assertion.get("label") == _PROMISE
        ),
        {},
    )
    info = manifest.get("signature_info") or {}
    signed: _Signed = "invalid"
    if store.get("validation_state") in ("Valid", "Trusted"):
        # An issuer has other customers, too; of one issuer a serial number is that of one signer.
        is_issued = store["validation_state"] == "Trusted"
        is_known = is_issued and str(info.get("cert_serial_number")) in known.serials
        signed = "known" if is_known else "valid"
    signer = info.get("common_name") or info.get("issuer") or ""
    return _Signature(signed, _clean(signer), promise, name == last)


def _clean(text: object) -> str:
    """A text from a foreign file on one line, without signs that steer a terminal."""
    return _CONTROL.sub(" ", str(text))[:_LONGEST].strip()


def _verification(
    mark: Mark | None,
    signature: _Signature | None,
    compared: _Compared,
    *,
    has_mask: bool,
) -> Verification:
    """What the mark, the signature and the comparison say, in fields and in words."""
    state = compared.state
    is_signed = signature is not None and signature.signed in ("valid", "known")
    promise = _clean(mark.promise) if mark is not None else ""
    alpha = mark.alpha if mark is not None else None
    share = mark.share if mark is not None else None
    if signature is not None and is_signed:
        # What was signed is believed rather than what was only written.
        signed_promise = signature.promise
        guarantee = signed_promise.get("guarantee")
        guarantee = guarantee if isinstance(guarantee, dict) else {}
        promise = _clean(guarantee.get("plain", "")) or promise
        alpha, share = (
            _number(signed_promise.get("alpha"), alpha),
            _number(signed_promise.get("trusted_fraction"), share),
        )
    sentence = _what(mark)
    sentences = [sentence]
    if share is not None and alpha is not None:
        about = _clean(mark.about) if mark is not None else ""
        sentences.append(f"{relied(share, about)}, at an accepted error of {alpha:.3g}.")
    elif mark is not None and mark.kind == "picture" and alpha is not None and not has_mask:
        sentences.append("Which part of it can be relied on is not in this file.")
    elif mark is not None and alpha is None:
        sentences.append("It was asked for without a mark of what can be relied on.")
    if promise:
        sentences.append(f"Its promise: {promise}")
    sentences += [compared.sentence or _PIXELS[state], _of_signature(signature)]
    if has_mask:
        sentences.append("The second page of the file shows which part that is.")
    if state in ("cropped", "changed", "resized"):
        sentences.append("Share and promise are about the picture before that.")
    return Verification(
        mark="signed" if is_signed else "xmp" if mark is not None else "none",
        what=sentence,
        sentences=sentences,
        kind=mark.kind if mark is not None else None,
        upscaler=_clean(mark.upscaler) if mark is not None else None,
        scale=mark.scale if mark is not None else None,
        upload=list(mark.upload) if mark is not None else None,
        alpha=alpha,
        trusted_fraction=share,
        promise=promise or None,
        source_type=_clean(mark.source_type) if mark is not None else None,
        pixels=state,
        changed=None if compared.box is None else list(compared.box),
        signed=signature.signed if signature is not None else "no",
        signed_by=signature.by if signature is not None else None,
        check=_clean(mark.check) if mark is not None else None,
    )


def _number(value: object, default: float | None) -> float | None:
    return float(value) if isinstance(value, int | float) else default


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
    model = f" by {_clean(mark.upscaler)}" if mark.upscaler else ""
    return f"{_KINDS[mark.kind]} {process} from {width} × {height} pixels{model}."


_PIXELS: Final[Mapping[_PixelState, str]] = {
    "unchanged": "Its pixels have not changed since it was marked.",
    "saved_again": "It was saved again: its pixels are not exactly the same as when it was marked, "
    "but look the same. A change of something small cannot be told from compression.",
    "resized": "It was made smaller or larger, and looks the same otherwise. A change of something "
    "small cannot be told from that.",
    "unknown": "Whether its pixels were changed cannot be told.",
}


def _of_signature(signature: _Signature | None) -> str:
    if signature is None:
        return "Nobody signed it: anybody can write such a mark."
    signer = f"“{signature.by}”" if signature.by else "somebody who is not named"
    match signature.signed:
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
