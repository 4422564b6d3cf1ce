"""What is kept of an upload's XMP, by an allow list of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from trustscale_server.images.xmp import DESCRIPTION, RDF, SPACES, descriptions, full

_EXIF: Final = "http://ns.adobe.com/exif/1.0/"

# How the picture was made, and who grants a licence. These are kept by default, since removing
# them harms whoever wrote them, and they say nothing of where and when.
_XMP_MARKS: Final[Mapping[str, str]] = {
    SPACES["Iptc4xmpExt"]: "DigitalSourceType",
    SPACES["plus"]: "Licensor DataMining OtherConstraints TermsAndConditionsText "
    "TermsAndConditionsURL CopyrightStatus CreditLineRequired LicenseID LicenseStartDate "
    "LicenseEndDate MediaSummaryCode",
    SPACES["photoshop"]: "Credit",
    SPACES["xmpRights"]: "WebStatement",
    SPACES["trustscale"]: "sourceTypeOfUpload",
}

_XMP_PHOTOGRAPH: Final[Mapping[str, str]] = {
    SPACES["dc"]: "creator rights title description",
    SPACES["xmp"]: "Rating CreateDate ModifyDate",
    SPACES["xmpRights"]: "Marked UsageTerms",
    SPACES["photoshop"]: "DateCreated",
    "http://ns.adobe.com/tiff/1.0/": "Make Model Artist Copyright ImageDescription DateTime "
    "XResolution YResolution ResolutionUnit",
    _EXIF: "DateTimeOriginal DateTimeDigitized ExposureTime FNumber "
    "ExposureProgram ISOSpeedRatings ShutterSpeedValue ApertureValue ExposureBiasValue "
    "MaxApertureValue MeteringMode LightSource FocalLength FocalLengthIn35mmFilm ExposureMode "
    "WhiteBalance DigitalZoomRatio SceneCaptureType",
    "http://cipa.jp/exif/1.0/": "LensMake LensModel LensSpecification PhotographicSensitivity",
    "http://ns.adobe.com/exif/1.0/aux/": "Lens LensInfo",
}
_XMP_PLACE: Final[Mapping[str, str]] = {
    _EXIF: "GPSVersionID GPSLatitude GPSLongitude GPSAltitude "
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


MARKS: Final = _names(_XMP_MARKS)
KEPT: Final = _names(_XMP_MARKS, _XMP_PHOTOGRAPH)
KEPT_WITH_PLACE: Final = _names(_XMP_MARKS, _XMP_PHOTOGRAPH, _XMP_PLACE)

_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_ITEM: Final = f"{RDF}li"


def allowed_xmp(packet: bytes, names: frozenset[str]) -> bytes:
    """Return a new packet with the named texts of `packet`; empty if there are none.

    Raises:
        ParseError: it is no XML, or has entities.
    """
    copy = Element(DESCRIPTION, {f"{RDF}about": ""})
    for description in descriptions(packet):
        for name, value in description.items():  # in their order: equal answers have equal bytes
            if name in names:
                copy.set(name, value)
        for element in description:
            if element.tag in names:
                _copy(element, copy)
    if not len(copy) and len(copy.keys()) == 1:
        return b""
    root = Element(f"{RDF}RDF")
    root.append(copy)
    return bytes(tostring(root, "utf-8"))


def _copy(element: Element, into: Element) -> None:
    """Append a text, a list of texts, or a list of who grants a licence."""
    if not len(element):
        _copy_text(element, into, f"{RDF}resource", _LANGUAGE)
        return
    array = element[0]
    if array.tag not in {f"{RDF}Alt", f"{RDF}Bag", f"{RDF}Seq"}:
        return
    items = SubElement(SubElement(into, element.tag), array.tag)
    for item in array.iterfind(_ITEM):
        if not len(item):
            _copy_text(item, items, _LANGUAGE)
        elif element.tag == full("plus:Licensor"):
            _copy_licensor(item[0] if item[0].tag == DESCRIPTION else item, items)


def _copy_text(element: Element, into: Element, *names: str) -> None:
    """Append an element with its text and the named attributes."""
    attributes = {name: element.attrib[name] for name in names if name in element.attrib}
    SubElement(into, element.tag, attributes).text = element.text


def _copy_licensor(licensor: Element, into: Element) -> None:
    """Append who grants a licence, without how to reach them."""
    item = SubElement(into, _ITEM, {f"{RDF}parseType": "Resource"})
    for name in map(full, ("plus:LicensorName", "plus:LicensorID", "plus:LicensorURL")):
        if text := licensor.get(name) or licensor.findtext(name):
            SubElement(item, name).text = text
