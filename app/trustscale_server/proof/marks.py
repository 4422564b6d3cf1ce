"""The mark in a file of ours: XMP that names its source, its model, its promise and its pixels.

It needs no certificate, so anybody can write such a mark: it tells honest people where a file comes
from, and proves nothing. `DigitalSourceType` is the term that IPTC has for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, Literal, cast, get_args
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from trustscale_server import __version__
from trustscale_server.images.xmp import DESCRIPTION, RDF, descriptions, full
from trustscale_server.pixels.lab import Pixels
from trustscale_server.proof.pixel_digest import (
    UNKNOWN_LOOK,
    UNKNOWN_PIXELS,
    check_number,
    coarse_copy,
    pixel_digest,
)

PictureKind = Literal["picture", "believed", "safe", "overlay", "card"]
"""The picture as the model made it; its doubtful part soft, or hatched; with a caption below."""

_TERMS: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EDITED: Final = f"{_TERMS}compositeWithTrainedAlgorithmicMedia"
"""“Edited using Generative AI”: what an enlargement is, since its model may invent."""

# What a model made before stays so after an enlargement.
_STRONGER: Final = frozenset(
    _TERMS + term for term in ("trainedAlgorithmicMedia", "compositeSynthetic", "algorithmicMedia")
)

_SOURCE_TYPE: Final = full("Iptc4xmpExt:DigitalSourceType")
_OURS: Final = full("trustscale:")
_BEFORE: Final = f"{_OURS}sourceTypeOfUpload"

_BEGIN: Final = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'.encode()
_END: Final = b'<?xpacket end="w"?>'

_LONGEST: Final = 8192  # characters of a value that is read


@dataclass(frozen=True, slots=True)
class Mark:
    """What a file of ours says about itself.

    upscaler, version: its name, and the fingerprint of it and its settings.
    scale: how many times as wide as the upload. upload: width and height that were sent.
    alpha, share, about, promise: None and empty without a mask; the share of the opaque pixels can
    be relied on `about` something, such as "for colour".
    pixels: their digest; empty: of data with 16 bits. look: see `coarse_copy`.
    picture, rows: of a card: digest and height of the picture that it shows.
    """

    kind: PictureKind
    upscaler: str
    version: str
    scale: float
    upload: tuple[int, int]
    size: tuple[int, int]
    calibration: str = ""
    alpha: float | None = None
    share: float | None = None
    about: str = ""
    promise: str = ""
    pixels: str = ""
    look: str = ""
    picture: str = ""
    rows: int = 0
    generator: str = f"trustscale {__version__}"
    source_type: str = EDITED

    def with_pixels(self, pixels: Pixels) -> Mark:
        """Return the mark of a file with these pixels, [H, W, 3 or 4]."""
        height, width = pixels.shape[:2]
        if pixels.dtype != np.uint8:
            return replace(self, size=(width, height), pixels="", look="")
        look = coarse_copy(cast("NDArray[np.uint8]", pixels))
        return replace(self, size=(width, height), pixels=pixel_digest(pixels), look=look)

    def pending(self, pixels: Pixels) -> Mark:
        """Return the mark of a lossy file, before its pixels are known; see `completed`."""
        height, width = pixels.shape[:2]
        return replace(self, size=(width, height), pixels=UNKNOWN_PIXELS, look=UNKNOWN_LOOK)

    @property
    def check(self) -> str:
        """The number by which people compare the picture, such as "8f3a 21c9 6e04"."""
        return check_number(self.picture or self.pixels)


def relied(share: float, about: str) -> str:
    """Return what the share of a mask means, in words."""
    return f"{percent(share)} of it can be relied on {about or 'for colour'}"


def percent(share: float) -> str:
    """Return a share as people read it; only all is 100 %, and only nothing is 0 %."""
    if 0 < share < 0.005:
        return "Less than 1\u00a0%"
    return f"{min(round(100 * share), 99 if share < 1 else 100)}\u00a0%"


def completed(file: bytes, pixels: NDArray[np.uint8]) -> bytes:
    """Return a file whose mark is `pending`, with the digest of its decoded pixels."""
    for placeholder, value in (
        (UNKNOWN_PIXELS, pixel_digest(pixels)),
        (UNKNOWN_LOOK, coarse_copy(pixels)),
    ):
        if file.count(placeholder.encode()) != 1:
            raise ValueError("the file does not hold its mark as plain text")
        file = file.replace(placeholder.encode(), value.encode())
    return file


def source_type(of_upload: str) -> str:
    """Return the term for an enlargement of an upload that calls itself `of_upload`."""
    secure = of_upload.replace("https://", "http://", 1)
    return secure if secure in _STRONGER else EDITED


def packet(mark: Mark, upload_xmp: bytes = b"") -> bytes:
    """Return an XMP packet with the mark and the allowed part of the upload's XMP (RDF)."""
    root = ET.Element(full("x:xmpmeta"))
    rdf = ET.SubElement(root, f"{RDF}RDF")
    ours = ET.SubElement(rdf, DESCRIPTION, {f"{RDF}about": ""})
    of_upload = ""
    for description in descriptions(upload_xmp) if upload_xmp else ():
        # An upload that was enlarged before says what it was before that.
        for name in (_SOURCE_TYPE, _BEFORE):
            of_upload = description.attrib.pop(name, of_upload)
            for element in description.findall(name):
                of_upload = element.text or of_upload
                description.remove(element)
        rdf.append(description)
    fields = {
        _SOURCE_TYPE: source_type(of_upload),
        full("Iptc4xmpExt:AISystemUsed"): mark.upscaler,
        full("Iptc4xmpExt:AISystemVersionUsed"): mark.version,
        full("xmp:CreatorTool"): mark.generator,
        **{_OURS + name: text for name, text in _texts(mark)},
    }
    if of_upload and of_upload != fields[_SOURCE_TYPE]:
        fields[_BEFORE] = of_upload
    for name, text in fields.items():
        ET.SubElement(ours, name).text = text
    return b"\n".join((_BEGIN, bytes(ET.tostring(root, "utf-8")), _END))


_ELSEWHERE: Final = frozenset({"source_type", "generator"})  # under names of others


def _texts(mark: Mark) -> Iterator[tuple[str, str]]:
    for field in fields(mark):
        value = getattr(mark, field.name)
        if field.name in _ELSEWHERE or value in (None, "", 0):
            continue
        yield field.name, "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def mark_in(texts: Mapping[str, str]) -> Mark | None:
    """Return the mark among the texts of an XMP packet by their full names; None: there is none.

    A damaged mark is none.
    """
    values = {
        name.removeprefix(_OURS): text[:_LONGEST]
        for name, text in texts.items()
        if name.startswith(_OURS)
    }
    if values.get("kind") not in get_args(PictureKind):
        return None
    try:
        return Mark(
            kind=cast("PictureKind", values["kind"]),
            upscaler=values.get("upscaler", ""),
            version=values.get("version", ""),
            scale=float(values["scale"]),
            upload=_pair(values["upload"]),
            size=_pair(values["size"]),
            calibration=values.get("calibration", ""),
            alpha=float(values["alpha"]) if "alpha" in values else None,
            share=float(values["share"]) if "share" in values else None,
            about=values.get("about", ""),
            promise=values.get("promise", ""),
            pixels=values.get("pixels", ""),
            look=values.get("look", ""),
            picture=values.get("picture", ""),
            rows=int(values.get("rows", 0)),
            generator=texts.get(full("xmp:CreatorTool"), "")[:_LONGEST],
            source_type=texts.get(_SOURCE_TYPE, "")[:_LONGEST],
        )
    except (KeyError, ValueError):
        return None


def _pair(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height
