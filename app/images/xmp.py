"""XMP by an allow list: a packet is parsed, and a new one is written of what may stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.etree.ElementTree import Element, ParseError, SubElement, TreeBuilder, XMLParser, tostring

_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_ARRAYS: Final = tuple(_RDF + kind for kind in ("Alt", "Bag", "Seq"))

_PHOTOGRAPH: Final[Mapping[str, str]] = {
    "http://purl.org/dc/elements/1.1/": "creator rights title description",
    "http://ns.adobe.com/xap/1.0/": "Rating CreateDate ModifyDate",
    "http://ns.adobe.com/xap/1.0/rights/": "Marked UsageTerms WebStatement",
    "http://ns.adobe.com/photoshop/1.0/": "DateCreated",
    "http://ns.adobe.com/tiff/1.0/": "Make Model Artist Copyright ImageDescription DateTime "
    "XResolution YResolution ResolutionUnit",
    "http://ns.adobe.com/exif/1.0/": "DateTimeOriginal DateTimeDigitized ExposureTime FNumber "
    "ExposureProgram ISOSpeedRatings ShutterSpeedValue ApertureValue ExposureBiasValue "
    "MaxApertureValue MeteringMode LightSource FocalLength FocalLengthIn35mmFilm ExposureMode "
    "WhiteBalance DigitalZoomRatio SceneCaptureType",
    "http://cipa.jp/exif/1.0/": "LensMake LensModel LensSpecification PhotographicSensitivity",
    "http://ns.adobe.com/exif/1.0/aux/": "Lens LensInfo",
}
_PLACE: Final[Mapping[str, str]] = {
    "http://ns.adobe.com/exif/1.0/": "GPSVersionID GPSLatitude GPSLongitude GPSAltitude "
    "GPSAltitudeRef GPSTimeStamp GPSSatellites GPSStatus GPSMeasureMode GPSDOP GPSSpeed "
    "GPSSpeedRef GPSTrack GPSTrackRef GPSImgDirection GPSImgDirectionRef GPSMapDatum "
    "GPSDestLatitude GPSDestLongitude GPSDestBearing GPSDestBearingRef GPSDestDistance "
    "GPSDestDistanceRef GPSProcessingMethod GPSAreaInformation GPSDifferential "
    "GPSHPositioningError"
}


def _names(*lists: Mapping[str, str]) -> frozenset[str]:
    return frozenset(
        f"{{{space}}}{name}"
        for names in lists
        for space, words in names.items()
        for name in words.split()
    )


_ALLOWED: Final = {False: _names(_PHOTOGRAPH), True: _names(_PHOTOGRAPH, _PLACE)}


class _NoEntities(TreeBuilder):
    """Refuses what only attacks on parsers have."""

    def doctype(self, *_: object) -> None:
        """Called at a document type. Raises ParseError."""
        raise ParseError


def allowed_xmp(packet: bytes, *, with_place: bool) -> bytes:
    """A new packet of the properties in `packet` that may stay; empty where none may.

    Texts and lists of texts stay; structures do not, whatever they are called.

    Raises:
        ParseError: it is no XML, or has entities.
    """
    parser = XMLParser(target=_NoEntities())  # noqa: S314 - entities are refused
    # Some programs write zeros behind the end; those of UTF-16 belong to it.
    parser.feed(packet if packet.startswith(_UTF_16) else packet.rstrip(b"\0"))
    allowed, kept = _ALLOWED[with_place], Element(_RDF + "Description", {_RDF + "about": ""})
    for description in parser.close().iterfind(f".//{_RDF}RDF/{_RDF}Description"):
        for name in allowed.intersection(description.keys()):
            kept.set(name, description.attrib[name])
        for found in description:
            if found.tag in allowed:
                _copy(found, kept)
    if not len(kept) and len(kept.keys()) == 1:
        return b""
    root = Element(_RDF + "RDF")
    root.append(kept)
    return bytes(tostring(root, "utf-8"))


def _copy(found: Element, into: Element) -> None:
    """Append a text or a list of texts."""
    if not len(found):
        SubElement(into, found.tag).text = found.text
        return
    array = found[0]
    if array.tag in _ARRAYS:
        texts = SubElement(SubElement(into, found.tag), array.tag)
        for item in array:
            if item.tag == _RDF + "li" and not len(item):
                language = {_LANGUAGE: item.attrib[_LANGUAGE]} if _LANGUAGE in item.attrib else {}
                SubElement(texts, item.tag, language).text = item.text
