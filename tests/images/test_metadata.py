"""What of an upload's metadata travels into the answer, judged by exiftool."""

from __future__ import annotations

import json
import re
from typing import get_args

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.PngImagePlugin import PngInfo

from app.images.decode import KeepMetadata, Limits, decode
from app.images.encode import FORMS, picture
from tests.factories import encoded, photo
from tests.images.programs import program

LIMITS = Limits()
SECRET = "Hideout"  # stands wherever a file may tell a place or a person
PLACE = re.compile("gps|:lat|:lon", re.IGNORECASE)
EXIF_KEPT = {"IFD0:Artist": "Ada", "IFD0:Make": "Canon", "ExifIFD:LensModel": "Fifty"}
XMP_KEPT = {"XMP-dc:Creator": "Zoë", "XMP-dc:Description-en": "A <tree>", "XMP-xmp:Rating": 4}
XMP = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="{SECRET}"
  xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
  xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
  xmlns:dji="http://www.dji.com/drone-dji/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
  xmlns:geo="http://www.w3.org/2003/01/geo/wgs84_pos#"
  xmlns:core="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
  xmlns:ext="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
  xmlns:mm="http://ns.adobe.com/xap/1.0/mm/" xmlns:aux="http://ns.adobe.com/exif/1.0/aux/"
  exif:GPSLatitude="52,30.5N" xmp:Rating="4" tiff:Orientation="6" aux:SerialNumber="{SECRET}"
  dji:GpsLatitude="52.5" dji:GpsLongtitude="13.4" dji:Latitude="52.5" geo:lat="52.5"
  photoshop:City="{SECRET}" core:Location="{SECRET}">
 <exif:GPSLongitude>13,24.5E</exif:GPSLongitude>
 <GPSLatitude xmlns="http://ns.adobe.com/other/">52.5</GPSLatitude>
 <geo:long>13.4</geo:long>
 <dc:creator><rdf:Seq><rdf:li>Zoë</rdf:li></rdf:Seq></dc:creator>
 <dc:description><rdf:Alt><rdf:li xml:lang="en">A &lt;tree&gt;</rdf:li></rdf:Alt></dc:description>
 <dc:title rdf:parseType="Resource"><ext:City>{SECRET}</ext:City></dc:title>
 <ext:LocationCreated><rdf:Bag><rdf:li rdf:parseType="Resource"><ext:City>{SECRET}</ext:City>
 </rdf:li></rdf:Bag></ext:LocationCreated>
 <mm:History><rdf:Seq><rdf:li><rdf:Description dc:rights="{SECRET}"/></rdf:li></rdf:Seq>
 </mm:History>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def exif() -> Image.Exif:
    """EXIF of a camera that knows too much, with copies of XMP, IPTC and Photoshop's blocks."""
    city = SECRET.encode()
    iptc = b"\x1c\x02\x5a" + len(city).to_bytes(2, "big") + city
    block = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + bytes(len(iptc) % 2)
    made = Image.Exif()
    made[Base.Artist], made[Base.Make], made[Base.Orientation] = "Ada", "Canon", 6
    made[Base.Software] = made[Base.HostComputer] = SECRET
    made[700], made[33723], made[34377] = XMP.encode(), iptc, block
    made[Base.XPComment] = SECRET.encode("utf-16-le")
    made.get_ifd(IFD.Exif).update({
        Base.LensModel: "Fifty", Base.ExposureTime: 1 / 30, Base.ExifImageWidth: 32,
        Base.UserComment: b"ASCII\0\0\0" + city, Base.MakerNote: city * 9,
        Base.CameraOwnerName: SECRET, Base.BodySerialNumber: SECRET, Base.ImageUniqueID: SECRET,
    })  # fmt: skip
    made.get_ifd(IFD.GPSInfo).update({
        GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (52.0, 30.0, 0.0),
        GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (13.0, 24.0, 0.0),
        GPS.GPSAreaInformation: b"ASCII\0\0\0Moor",
    })  # fmt: skip
    return made


@pytest.fixture
def upload(tmp_path):
    """A file of a format that carries every place there is, by what the format can hold."""

    def made(form: str) -> bytes:
        pixels = Image.fromarray(photo())
        if form == "gif":
            path, packet = tmp_path / "a.gif", tmp_path / "a.xmp"
            path.write_bytes(encoded(pixels, form))
            packet.write_text(XMP, encoding="utf-8")
            program("exiftool", "-q", "-overwrite_original", f"-XMP<={packet}", path)
            return path.read_bytes()
        facts = {"exif": exif().tobytes(), "xmp": XMP.encode()}
        if form == "png":
            facts["pnginfo"] = PngInfo()
            facts["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP)
            facts["pnginfo"].add_text("Location", SECRET)
        return encoded(pixels, {"heic": "HEIF"}.get(form, form), **facts)

    return made


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "avif", "tiff", "gif", "heic", "jxl"])
def test_what_travels(upload, tmp_path, form):
    """Every input × output × setting: what may stay does; a place only where it was asked for."""
    data = upload(form)
    assert SECRET.encode() in data
    for keep in get_args(KeepMetadata):
        decoded = decode(data, LIMITS, keep=keep)
        for out in FORMS:
            file = picture(decoded.rgb, out, metadata=decoded.metadata)
            (tmp_path / f"{keep}.{out}").write_bytes(file)
    paths = [tmp_path / f"{keep}.{out}" for keep in get_args(KeepMetadata) for out in FORMS]
    for path, told in zip(paths, json.loads(read(*paths)), strict=True):
        places = {name for name in told if PLACE.search(name)}
        assert SECRET not in json.dumps(told), path.name
        assert SECRET.encode() not in path.read_bytes()
        assert told.get("IFD0:Orientation", 1) == 1
        # Pillow reads no XMP of GIF and JPEG XL.
        xmp = {} if form in {"gif", "jxl"} else XMP_KEPT
        kept = {} if path.stem == "none" else {**xmp, **({} if form == "gif" else EXIF_KEPT)}
        assert {name: told.get(name) for name in EXIF_KEPT | XMP_KEPT} == {
            name: kept.get(name) for name in EXIF_KEPT | XMP_KEPT
        }
        if path.stem == "keep-gps":
            assert not xmp or {"XMP-exif:GPSLatitude", "XMP-exif:GPSLongitude"} <= places
            assert form == "gif" or told["GPS:GPSLatitude"] == 52.5
        else:
            assert not places


def read(*paths) -> str:
    """All that exiftool finds, unknown tags and duplicates too, as JSON with groups and numbers."""
    return program("exiftool", "-j", "-a", "-u", "-n", "-G1", *paths)


def test_the_place_in_another_encoding():
    """XMP of UTF-16, and with zeros behind its end, is read as any other."""
    plain = decode(encoded(photo(), "WEBP", xmp=XMP.encode()), LIMITS, keep="keep")
    for packet in (XMP.encode("utf-16"), XMP.encode() + b"\0\0"):
        found = decode(encoded(photo(), "WEBP", xmp=packet), LIMITS, keep="keep")
        assert (found.metadata, found.notes) == (plain.metadata, [])


@pytest.mark.parametrize(
    "damaged",
    [
        {"exif": b"Exif\0\0garbage"},
        {"exif": b"Exif\0\0II*\0\x08\0\0\0" + bytes(2**20)},
        {"xmp": b"<x:xmpmeta"},
        {"xmp": b'<!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>'},
        {"xmp": b"<x>" + bytes(2**20)},
    ],
)
def test_what_is_damaged(damaged):
    """It is left out with a note: broken, larger than any camera's, or with entities."""
    decoded = decode(
        encoded(photo(), "PNG" if "exif" in damaged else "WEBP", **damaged), LIMITS, keep="keep"
    )
    (kind,) = damaged
    assert (decoded.metadata.exif, decoded.metadata.xmp) == (b"", b"")
    assert decoded.notes == [f"The {kind.upper()} data are damaged or too large and were not kept."]


def test_nothing_large_hides_in_what_may_stay():
    """A text that is longer than any camera writes is no text."""
    found = Image.Exif()
    found[Base.Make], found[Base.Model] = "x" * 5000, "Camera"
    kept = decode(encoded(photo(), exif=found), LIMITS, keep="keep").metadata
    (read_again := Image.Exif()).load(kept.exif)
    assert (read_again.get(Base.Make), read_again[Base.Model]) == (None, "Camera")


@pytest.mark.parametrize("form", FORMS)
def test_what_writers_have_their_own_way_with(tmp_path, form):
    """Resolution and a description that is not ASCII arrive in every form."""
    found = Image.Exif()
    found[Base.ImageDescription], found[Base.XResolution] = "Bäumchen".encode(), 300.0
    kept = decode(encoded(photo(), exif=found), LIMITS, keep="keep").metadata
    path = tmp_path / f"a.{form}"
    path.write_bytes(picture(photo(), form, text={"a": "b"}, metadata=kept))
    (told,) = json.loads(read(path))
    assert (told["IFD0:ImageDescription"], told["IFD0:XResolution"]) == ("Bäumchen", 300)
    assert told.get("IFD0:ProcessingSoftware") == ("trustscale" if form == "png" else "a=b")
