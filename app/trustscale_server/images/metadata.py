"""A file's metadata, by an allow list.

By default only marks are kept (`_XMP_MARKS`). On request: camera, lens, exposure, dates, creator,
copyright, description, rating, resolution, and the place. All else is removed: serial numbers,
owners, maker notes, previews, histories, unknown fields.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from xml.etree.ElementTree import Element, SubElement, tostring

from msgspec import ValidationError, convert
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from trustscale_server.images.xmp import DESCRIPTION, RDF, SPACES, descriptions, full, packet_of

if TYPE_CHECKING:
    from tifffile import TiffFile

_MAIN: Final = (
    Base.ImageDescription, Base.Make, Base.Model, Base.XResolution, Base.YResolution,
    Base.ResolutionUnit, Base.DateTime, Base.Artist, Base.Rating, Base.RatingPercent,
    Base.Copyright,
)  # fmt: skip
_PHOTOGRAPH: Final = (
    Base.ExposureTime, Base.FNumber, Base.ExposureProgram, Base.ISOSpeedRatings,
    Base.SensitivityType, Base.StandardOutputSensitivity, Base.RecommendedExposureIndex,
    Base.ISOSpeed, Base.DateTimeOriginal, Base.DateTimeDigitized, Base.OffsetTime,
    Base.OffsetTimeOriginal, Base.OffsetTimeDigitized, Base.ShutterSpeedValue, Base.ApertureValue,
    Base.BrightnessValue, Base.ExposureBiasValue, Base.MaxApertureValue, Base.MeteringMode,
    Base.LightSource, Base.Flash, Base.FocalLength, Base.SubsecTime, Base.SubsecTimeOriginal,
    Base.SubsecTimeDigitized, Base.ExposureMode, Base.WhiteBalance, Base.DigitalZoomRatio,
    Base.FocalLengthIn35mmFilm, Base.SceneCaptureType, Base.GainControl, Base.Contrast,
    Base.Saturation, Base.Sharpness, Base.LensSpecification, Base.LensMake, Base.LensModel,
)  # fmt: skip
_SRGB: Final = 1
PROGRAM: Final = 0x000B  # ProcessingSoftware, which no other program fills in

_MAX_READ: Final = 1 << 20  # bytes of EXIF or XMP
_MAX_KEPT: Final = (1 << 16) - 64  # one JPEG segment, which all formats can carry
_MAX_XMP: Final = _MAX_KEPT - 8192  # beside a mark of ours
_LONGEST: Final = 4096  # characters of a text
_ITEMS: Final = 8  # of a list: a lens has four numbers

# GeoTIFF: pixel size, tie points, transformation, tables of keys, the value of no data.
PIXEL_SCALE, TIE_POINTS, TRANSFORMATION = 33550, 33922, 34264
_GEO: Final = (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, 34735, 34736, 34737, 42113)

_MICROMETRES: Final[Mapping[str, float]] = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m"), 1.0),
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
}


_GeoTag: TypeAlias = int | float | str | tuple[int | float, ...]
"""The value of a tag of a GeoTIFF."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """EXIF (without its marker) and XMP as bytes, and the tags of a GeoTIFF by number.

    pixel_um: width and height of a pixel in micrometres, if known.
    """

    exif: bytes = b""
    xmp: bytes = b""
    geo: Mapping[int, _GeoTag] = field(default_factory=dict)
    pixel_um: tuple[float, float] | None = None

    def exif_of(self, program: str) -> bytes:
        """Return EXIF that names the program."""
        exif = _loaded(self.exif)
        exif[PROGRAM] = program
        return exif.tobytes()

    def tiff_of(self) -> tuple[dict[int, Any], dict[int, Mapping[int, Any]]]:
        """Return the main directory of EXIF as TIFF tags, and the directories below it."""
        exif = _loaded(self.exif)
        below = {tag: dict(exif.get_ifd(tag)) for tag in (IFD.Exif, IFD.GPSInfo)}
        main: dict[int, Any] = {tag: exif[tag] for tag in _MAIN if tag in exif}
        return main, {tag: directory for tag, directory in below.items() if directory}

    def enlarged(self, scale: float) -> Metadata:
        """Return the metadata of a picture with `scale` times the pixels per direction."""
        geo = dict(self.geo)
        if isinstance(size := geo.get(PIXEL_SCALE), tuple):
            geo[PIXEL_SCALE] = (size[0] / scale, size[1] / scale, *size[2:])
        if isinstance(points := geo.get(TIE_POINTS), tuple):
            # Six numbers each: column, row, level, then the place.
            geo[TIE_POINTS] = tuple(
                value * scale if place % 6 < 2 else value for place, value in enumerate(points)
            )
        if isinstance(matrix := geo.get(TRANSFORMATION), tuple):
            # Rows of four: the first two are steps by a column and by a row.
            geo[TRANSFORMATION] = tuple(
                value / scale if place % 4 < 2 else value for place, value in enumerate(matrix)
            )
        size = self.pixel_um and (self.pixel_um[0] / scale, self.pixel_um[1] / scale)
        return replace(self, geo=geo, pixel_um=size)


def metadata_of(image: Image.Image, *, with_place: bool) -> tuple[Metadata, list[str]]:
    """Return the allowed metadata of an opened image, and notes on what was lost.

    image: before its orientation is applied. with_place: with GPS and georeference.
    """
    notes: list[str] = []
    exif, turned = b"", False
    try:
        if len(image.info.get("exif", b"")) > _MAX_READ:
            raise ValueError  # noqa: TRY301 - as damaged ones
        # `PngImageFile.getexif` would decode all pixels.
        all_exif = Image.Image.getexif(image)
        turned = all_exif.get(Base.Orientation, 1) != 1
        exif = _allowed_exif(all_exif, with_place=with_place)
    except Exception:  # noqa: BLE001 - Pillow raises anything on damaged EXIF
        notes.append("The EXIF data are damaged or too large and were not kept.")
    try:
        xmp = _xmp_of(image, "place" if with_place else "all")
    except (SyntaxError, ValueError):
        xmp = b""
        notes.append("The XMP data are damaged or too large and were not kept.")
    if len(exif) > _MAX_KEPT or len(xmp) > _MAX_XMP:
        exif, xmp = b"", b""
        notes.append("The metadata are too large and were not kept.")
    # The georeference of a turned picture is wrong.
    return Metadata(exif, xmp, _geo(image) if with_place and not turned else {}), notes


def marks_of(image: Image.Image) -> Metadata:
    """Return the marks alone: how a picture was made, and who grants a licence."""
    with suppress(SyntaxError, ValueError):  # damaged ones mark nothing
        xmp = _xmp_of(image, "marks")
        return Metadata(xmp=xmp if len(xmp) <= _MAX_XMP else b"")
    return Metadata()


def _xmp_of(image: Image.Image, scope: str) -> bytes:
    """The allowed XMP of an opened image. Raises SyntaxError, ValueError: it is damaged."""
    packet = packet_of(image)
    return packet and allowed_xmp(packet[:_MAX_READ], _ALLOWED[scope])


def _loaded(data: bytes) -> Image.Exif:
    """EXIF with its texts as bytes, since Pillow reads Latin-1 and writes ASCII."""
    exif = Image.Exif()
    exif.load(data)
    for tag in _MAIN:
        if isinstance(text := exif.get(tag), str):
            exif[tag] = text.encode("latin-1")
    return exif


def _allowed_exif(all_exif: Image.Exif, *, with_place: bool) -> bytes:
    """A new directory of the allowed fields; empty if there are none."""
    allowed = Image.Exif()
    for tag in _MAIN:
        if _is_plain(value := all_exif.get(tag)):
            allowed[tag] = value.encode("latin-1") if isinstance(value, str) else value
    photograph = all_exif.get_ifd(IFD.Exif)
    allowed.get_ifd(IFD.Exif).update(_plain(photograph, _PHOTOGRAPH))
    if with_place:
        allowed.get_ifd(IFD.GPSInfo).update(_plain(all_exif.get_ifd(IFD.GPSInfo), tuple(GPS)))
    if not len(allowed) and not any(allowed.get_ifd(tag) for tag in (IFD.Exif, IFD.GPSInfo)):
        return b""
    allowed.get_ifd(IFD.Exif)[Base.ColorSpace] = _SRGB
    return allowed.tobytes()


def _plain(directory: Mapping[int, Any], tags: tuple[int, ...]) -> dict[int, Any]:
    return {tag: directory[tag] for tag in tags if _is_plain(directory.get(tag))}


def _is_plain(value: object) -> bool:
    """Whether it is a number, a text, or a few of them: nothing that could hold a file."""
    if isinstance(value, str | bytes):
        return len(value) <= _LONGEST
    if isinstance(value, tuple):
        items = (not isinstance(item, tuple) and _is_plain(item) for item in value)
        return len(value) <= _ITEMS and all(items)
    return value is not None and not isinstance(value, dict)


def _geo(image: Image.Image) -> dict[int, _GeoTag]:
    tags = getattr(image, "tag_v2", {})
    return _geo_tags({tag: tags[tag] for tag in _GEO if tag in tags})


def _geo_tags(tags: Mapping[int, object]) -> dict[int, _GeoTag]:
    """The tags whose values have the types that GeoTIFF defines."""
    geo: dict[int, _GeoTag] = {}
    for tag, value in tags.items():
        with suppress(ValidationError):
            geo[tag] = convert(value, _GeoTag)
    return geo


def georeference_of(
    data: bytes, directory: int
) -> tuple[dict[int, _GeoTag], tuple[float, float] | None]:
    """Return the georeference of a directory of a TIFF file, from 0, and its pixel size.

    Width and height in micrometres, from OME-TIFF or ImageJ.
    """
    import tifffile  # noqa: PLC0415 - takes time

    geo: dict[int, _GeoTag] = {}
    size: tuple[float, float] | None = None
    with suppress(Exception), tifffile.TiffFile(io.BytesIO(data)) as file:  # of damaged files
        with suppress(Exception):
            tags = file.pages[directory].aspage().tags
            geo = _geo_tags({tag: tags[tag].value for tag in _GEO if tag in tags})
        size = _pixel_size(file)
    return geo, size


def _pixel_size(file: TiffFile) -> tuple[float, float]:
    if xml := file.ome_metadata:
        return _ome_size(xml[:_MAX_READ], "X"), _ome_size(xml[:_MAX_READ], "Y")
    unit = str((file.imagej_metadata or {}).get("unit", ""))
    tags = file.pages.first.aspage().tags
    densities = [tags[tag].value for tag in (Base.XResolution, Base.YResolution)]
    width, height = (_MICROMETRES[unit] * down / up for up, down in densities)
    return width, height


def _ome_size(xml: str, axis: str) -> float:
    size = re.search(f'PhysicalSize{axis}="([^"]{{1,40}})"', xml)
    unit = re.search(f'PhysicalSize{axis}Unit="([^"]{{1,40}})"', xml)
    assert size is not None  # noqa: S101 - the caller catches whatever is wrong
    return float(size[1]) * _MICROMETRES[html.unescape(unit[1]) if unit else "µm"]


_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_ARRAYS: Final = tuple(RDF + kind for kind in ("Alt", "Bag", "Seq"))
_PLAIN: Final = (f"{RDF}resource", _LANGUAGE)
_LICENSOR: Final = full("plus:Licensor")
_LICENSOR_TEXTS: Final = tuple(
    full(f"plus:Licensor{name}")
    for name in ("Name", "ID", "URL")  # not how to reach people
)

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
    "http://purl.org/dc/elements/1.1/": "creator rights title description",
    "http://ns.adobe.com/xap/1.0/": "Rating CreateDate ModifyDate",
    "http://ns.adobe.com/xap/1.0/rights/": "Marked UsageTerms",
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
_XMP_PLACE: Final[Mapping[str, str]] = {
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


_ALLOWED: Final = {
    "marks": _names(_XMP_MARKS),
    "all": _names(_XMP_MARKS, _XMP_PHOTOGRAPH),
    "place": _names(_XMP_MARKS, _XMP_PHOTOGRAPH, _XMP_PLACE),
}


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
        attributes = {name: element.attrib[name] for name in _PLAIN if name in element.attrib}
        SubElement(into, element.tag, attributes).text = element.text
        return
    array = element[0]
    if array.tag in _ARRAYS:
        texts = SubElement(SubElement(into, element.tag), array.tag)
        for item in array:
            if item.tag == f"{RDF}li" and not len(item):
                language = {_LANGUAGE: item.attrib[_LANGUAGE]} if _LANGUAGE in item.attrib else {}
                SubElement(texts, item.tag, language).text = item.text
            elif element.tag == _LICENSOR:
                licensor = item[0] if item[0].tag == DESCRIPTION else item
                licence = SubElement(texts, item.tag, {f"{RDF}parseType": "Resource"})
                for name in _LICENSOR_TEXTS:
                    if text := licensor.get(name) or licensor.findtext(name):
                        SubElement(licence, name).text = text
