"""A file's metadata, by an allow list.

By default only marks are kept (`allowed_xmp.MARKS`). On request: camera, lens, exposure, dates,
creator, copyright, description, rating, resolution, and the place. All else is removed: serial
numbers, owners, maker notes, previews, histories, unknown fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from trustscale_server.images.allowed_xmp import KEPT, KEPT_WITH_PLACE, MARKS, allowed_xmp
from trustscale_server.images.georeference import GeoTag, enlarged_geo, geo_tags_of
from trustscale_server.images.xmp import packet_of

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
PROGRAM: Final = Base.ProcessingSoftware  # which no other program fills in

_MAX_READ: Final = 1 << 20  # bytes of EXIF or XMP
_MAX_KEPT: Final = (1 << 16) - 64  # one JPEG segment, which all formats can carry
_MAX_XMP: Final = _MAX_KEPT - 8192  # beside a mark of ours


@dataclass(frozen=True, slots=True)
class Metadata:
    """EXIF (without its marker) and XMP as bytes, and the tags of a GeoTIFF by number.

    pixel_um: width and height of a pixel in micrometres, if known.
    """

    exif: bytes = b""
    xmp: bytes = b""
    geo: Mapping[int, GeoTag] = field(default_factory=dict)
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
        size = self.pixel_um and (self.pixel_um[0] / scale, self.pixel_um[1] / scale)
        return replace(self, geo=enlarged_geo(self.geo, scale), pixel_um=size)


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
        xmp = _xmp_of(image, KEPT_WITH_PLACE if with_place else KEPT)
    except (SyntaxError, ValueError):
        xmp = b""
        notes.append("The XMP data are damaged or too large and were not kept.")
    if len(exif) > _MAX_KEPT or len(xmp) > _MAX_XMP:
        exif, xmp = b"", b""
        notes.append("The metadata are too large and were not kept.")
    # The georeference of a turned picture is wrong.
    geo = geo_tags_of(image) if with_place and not turned else {}
    return Metadata(exif, xmp, geo), notes


def marks_of(image: Image.Image) -> Metadata:
    """Return the marks alone: how a picture was made, and who grants a licence."""
    with suppress(SyntaxError, ValueError):  # damaged ones mark nothing
        xmp = _xmp_of(image, MARKS)
        return Metadata(xmp=xmp if len(xmp) <= _MAX_XMP else b"")
    return Metadata()


def _xmp_of(image: Image.Image, names: frozenset[str]) -> bytes:
    """The named XMP of an opened image. Raises SyntaxError, ValueError: it is damaged."""
    packet = packet_of(image)
    return packet and allowed_xmp(packet[:_MAX_READ], names)


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
    allowed.get_ifd(IFD.Exif)[Base.ColorSpace] = 1  # sRGB
    return allowed.tobytes()


def _plain(directory: Mapping[int, Any], tags: tuple[int, ...]) -> dict[int, Any]:
    return {tag: directory[tag] for tag in tags if _is_plain(directory.get(tag))}


def _is_plain(value: object) -> bool:
    """Whether it is a number, a text, or a few of them: nothing that could hold a file."""
    if isinstance(value, str | bytes):
        return len(value) <= 4096
    if isinstance(value, tuple):
        items = (not isinstance(item, tuple) and _is_plain(item) for item in value)
        return len(value) <= 8 and all(items)  # a lens has four numbers
    return value is not None and not isinstance(value, dict)
