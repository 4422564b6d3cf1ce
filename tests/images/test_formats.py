"""Forms of pictures that come and go, and the metadata that may stay."""

import io
import json
import re
import warnings
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.PngImagePlugin import PngInfo

from harness.factories import encoded, photo
from tests.images.programs import program
from trustscale_server.images.allowed_xmp import allowed_xmp
from trustscale_server.images.decoding.decode import KeepMetadata, decode
from trustscale_server.images.encoding.encode import PICTURE_FORMATS, Attached, picture
from trustscale_server.images.encoding.tiff import write_cog
from trustscale_server.images.limits import Limits
from trustscale_server.images.metadata import Metadata
from trustscale_server.images.xmp import descriptions
from trustscale_server.platform.errors import BadRequest, ImageTooLarge
from trustscale_server.serving.picture_format import chosen_format
from trustscale_server.serving.request import options_of

LIMITS = Limits()
PHOTOGRAPHS = [form for form in PICTURE_FORMATS if not form.endswith(".tiff")]
"""Forms that keep what cameras write; the others are of data."""
GEO = {
    33550: (10.0, 10.0, 0.0),
    33922: (2.0, 3.0, 0.0, 500000.0, 4600000.0, 0.0),
    34735: (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32631),
}


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_large_picture_is_reduced_when_asked(form):
    limits = Limits(max_pixels=100 * 100)
    data = encoded(np.tile(photo(), (10, 10, 1)), form)
    with pytest.raises(ImageTooLarge, match=r"fit=115 "):
        decode(data, limits)
    decoded = decode(data, limits, max_input_side=115)
    assert decoded.rgb.shape == (86, 115, 3)
    assert "Reduced from 320×240 to 115 px first" in decoded.notes[-1]
    assert decode(data, Limits(), max_input_side=1000).rgb.shape == (240, 320, 3)


class TestOut:
    def test_notes_travel_in_every_form(self):
        """α and the calibration are in each file, for exiftool or any reader of EXIF."""
        text = {"Software": "trustscale 1", "trustscale:alpha": "0.1"}
        for form in ("webp", "avif", "jpeg", "tiff"):
            exif = Image.open(io.BytesIO(picture(photo(), form, attached=Attached(text)))).getexif()
            assert exif[0x000B] == "Software=trustscale 1; alpha=0.1"

    def test_gdal_does_not_warn(self):
        """So none is kept from warning: the filters belong to all threads of the process."""
        seen = []

        class Out(io.BytesIO):
            def write(self, data):
                seen.append(list(warnings.filters))
                return super().write(data)

        for _ in range(2):  # the first one may import libraries that have filters of their own
            write_cog(Out(), photo(), "trustscale", Metadata(), None, b"")
        assert seen[1] == list(warnings.filters)

    def test_tags_survive_the_way_through(self):
        """Georeference of an uploaded TIFF file comes back, but only with the place."""
        data = picture(photo(), "tiff", attached=Attached(metadata=Metadata(geo=GEO)))
        assert decode(data, LIMITS).metadata == Metadata()
        assert decode(data, LIMITS, keep="keep").metadata.geo == {}
        kept = decode(data, LIMITS, keep="keep-gps").metadata
        assert kept.geo == GEO
        # The tie point is the corner of another pixel then, at the same place on the ground.
        larger = kept.enlarged(4).geo
        assert larger[33550] == (2.5, 2.5, 0.0)
        assert larger[33922] == (8.0, 12.0, 0.0, 500000.0, 4600000.0, 0.0)


@pytest.mark.parametrize(
    ("form", "quality", "side", "words"),
    [("webp", None, 20_000, "16,383"), ("jpeg", None, 10, "background=white"),
     ("png", 5, 10, "has no quality"), ("heic", None, 10, "must be 'png', 'webp'")],
)  # fmt: skip
def test_what_a_form_cannot_hold(form, quality, side, words):
    with pytest.raises(BadRequest, match=words):
        chosen_format(options_of(format=form).format, quality).raise_if_impossible(
            side, transparent=form == "jpeg"
        )


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


def exif():
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

    def made(form):
        pixels = Image.fromarray(photo())
        if form == "gif":
            path, packet = tmp_path / "a.gif", tmp_path / "a.xmp"
            path.write_bytes(encoded(pixels, form))
            packet.write_text(XMP, encoding="utf-8")
            program("exiftool", "-q", "-overwrite_original", f"-XMP<={packet}", path)
            return path.read_bytes()
        metadata = {"exif": exif().tobytes(), "xmp": XMP.encode()}
        if form == "png":
            metadata["pnginfo"] = PngInfo()
            metadata["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP)
            metadata["pnginfo"].add_text("Location", SECRET)
        return encoded(pixels, {"heic": "HEIF"}.get(form, form), **metadata)

    return made


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "avif", "tiff", "gif", "heic", "jxl"])
def test_what_travels(upload, tmp_path, form):
    """Every input × output × setting: what may stay does; a place only where it was asked for."""
    data = upload(form)
    assert SECRET.encode() in data
    for keep in get_args(KeepMetadata):
        decoded = decode(data, LIMITS, keep=keep)
        for out in PHOTOGRAPHS:
            file = picture(decoded.rgb, out, attached=Attached(metadata=decoded.metadata))
            (tmp_path / f"{keep}.{out}").write_bytes(file)
    paths = [tmp_path / f"{keep}.{out}" for keep in get_args(KeepMetadata) for out in PHOTOGRAPHS]
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


def read(*paths):
    """All that exiftool finds, unknown tags and duplicates too, as JSON with groups and numbers."""
    return program("exiftool", "-j", "-a", "-u", "-n", "-G1", *paths)


def test_attributes_keep_their_order():
    """Equal answers have equal bytes, in every process."""
    names = [f"{{urn:x}}name{i}" for i in range(12)]
    given = " ".join(f'x:name{i}="{i}"' for i in range(12))
    packet = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:x="urn:x">'
        f'<rdf:Description rdf:about="" {given}/></rdf:RDF>'
    )
    (copy,) = descriptions(allowed_xmp(packet.encode(), frozenset(names)))
    assert [*copy.keys()][1:] == names


def test_elements_that_no_list_has():
    """They are left out, and hinder nobody from reading the picture."""
    licensor = "{http://ns.useplus.org/ldf/xmp/1.0/}Licensor"
    packet = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"><rdf:Description rdf:about="">'
        "<plus:Licensor><rdf:Bag><plus:odd/><rdf:li><plus:LicensorName>Ada</plus:LicensorName>"
        "</rdf:li></rdf:Bag></plus:Licensor></rdf:Description></rdf:RDF>"
    )
    kept = decode(encoded(photo(), "WEBP", xmp=packet.encode()), LIMITS).metadata.xmp
    (description,) = descriptions(kept)
    assert description.findtext(f".//{licensor}Name") == "Ada"
    assert b"odd" not in kept


def test_the_place_in_another_encoding():
    """XMP of UTF-16, and with zeros behind its end, is read as any other."""
    plain = decode(encoded(photo(), "WEBP", xmp=XMP.encode()), LIMITS, keep="keep")
    for packet in (XMP.encode("utf-16"), XMP.encode() + b"\0\0"):
        found = decode(encoded(photo(), "WEBP", xmp=packet), LIMITS, keep="keep")
        assert (found.metadata, found.notes) == (plain.metadata, [])


@pytest.mark.parametrize(
    "damaged",
    [{"exif": b"Exif\0\0garbage"}, {"exif": b"Exif\0\0II*\0\x08\0\0\0" + bytes(2**20)},
     {"xmp": b"<x:xmpmeta"}, {"xmp": b'<!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>'},
     {"xmp": b"<x>" + bytes(2**20)}],
)  # fmt: skip
def test_what_is_damaged(damaged):
    (kind,) = damaged
    data = encoded(photo(), "PNG" if kind == "exif" else "WEBP", **damaged)
    decoded = decode(data, LIMITS, keep="keep")
    assert (decoded.metadata.exif, decoded.metadata.xmp) == (b"", b"")
    assert decoded.notes == [f"The {kind.upper()} data are damaged or too large and were not kept."]


def test_nothing_large_hides_in_what_may_stay():
    """A text that is longer than any camera writes is no text."""
    found = Image.Exif()
    found[Base.Make], found[Base.Model] = "x" * 5000, "Camera"
    kept = decode(encoded(photo(), exif=found), LIMITS, keep="keep").metadata
    (read_again := Image.Exif()).load(kept.exif)
    assert (read_again.get(Base.Make), read_again[Base.Model]) == (None, "Camera")
