"""The marks in the files of answers, and those of uploads that are kept."""

import io
import shutil
import subprocess
import zipfile

import pytest
from PIL import Image

from harness.factories import encoded, photo
from harness.gateway import post
from tests.missing import not_here
from trustscale_server.images.xmp import full, texts_of
from trustscale_server.proof.verify import verify

TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EDITED = f"{TERMS}compositeWithTrainedAlgorithmicMedia"
FORMATS = ("png", "webp", "avif", "jpeg", "tiff", "ome.tiff", "cog.tiff")


def fetched(client, answer, part="image"):
    return client.get(answer["links"][part]).content


def texts(data):
    with Image.open(io.BytesIO(data)) as image:
        packet = image.info["xmp"]
    return texts_of(packet if isinstance(packet, bytes) else packet.encode())


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_its_mark(client, form):
    """Its pixels are those of the file as it is read, also after a lossy compression."""
    if form == "cog.tiff":
        pytest.importorskip("rasterio")
    answer = post(client, encoded(photo(4, 40, 60)), format=form).json()
    data = fetched(client, answer)
    found = verify(data)
    assert (found.mark, found.kind, found.pixels) == ("xmp", "picture", "unchanged")
    assert (found.upload, found.scale) == ([60, 40], answer["scale"])
    assert found.promise == answer["guarantee"]["plain"]
    assert found.source_type == EDITED
    assert texts(data)[full("Iptc4xmpExt:AISystemUsed")] == answer["upscaler"]


@pytest.mark.parametrize("form", FORMATS)
def test_exiftool_reads_the_marks(client, form, tmp_path):
    """A judge of its own; it finds no fault with the file either."""
    if shutil.which("exiftool") is None:
        not_here("exiftool is not installed")
    if form == "cog.tiff":
        pytest.importorskip("rasterio")
    path = tmp_path / f"a.{form}"
    path.write_bytes(fetched(client, post(client, format=form).json()))
    run = ["exiftool", "-s3", "-XMP-iptcExt:DigitalSourceType", path]
    assert subprocess.check_output(run, text=True).strip() == EDITED
    run = ["exiftool", "-s3", "-validate", "-error", path]
    said = subprocess.run(run, capture_output=True, text=True, check=False).stdout
    assert "Error" not in said


def test_an_answer_without_a_mask(client):
    """It is an enlargement by a model all the same, and promises nothing."""
    found = verify(fetched(client, post(client, mask="none").json()))
    assert (found.kind, found.source_type, found.alpha) == ("picture", EDITED, None)
    assert found.promise is None
    assert "It was asked for without a mark of what can be relied on." in found.sentences


def test_drawings(client, answer):
    """Believed picture and overlay have the share; of another α no promise is repeated."""
    for part in ("believed", "overlay"):
        found = verify(fetched(client, answer, part))
        assert (found.kind, found.pixels) == (part, "unchanged")
        assert found.trusted_fraction == answer["trusted_fraction"]
        assert found.promise == answer["guarantee"]["plain"]
        other = client.get(f"{answer['links'][part]}?alpha=0.5").content
        assert (verify(other).alpha, verify(other).promise) == (0.5, None)


def test_another_form_of_a_stored_picture(client, answer):
    """It has the same mark, about its own pixels."""
    for form in FORMATS[:5]:
        found = verify(client.get(f"{answer['links']['self']}/image.{form}").content)
        assert (found.pixels, found.promise) == ("unchanged", answer["guarantee"]["plain"])


XMP = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF
 xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about=""
 xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:p="http://ns.useplus.org/ldf/xmp/1.0/"
 xmlns:ps="http://ns.adobe.com/photoshop/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 i:DigitalSourceType="{TERMS}trainedAlgorithmicMedia" ps:Credit="Agency" dc:source="secret">
 <p:DataMining>http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED</p:DataMining>
 <p:Licensor><r:Seq><r:li r:parseType="Resource"><p:LicensorName>Agency</p:LicensorName>
 <p:LicensorURL>https://a.example/</p:LicensorURL><p:LicensorEmail>secret</p:LicensorEmail>
 </r:li></r:Seq></p:Licensor></r:Description></r:RDF></x:xmpmeta>"""


@pytest.mark.parametrize("metadata", ["none", "keep"])
def test_marks_of_the_upload(client, metadata):
    """They are kept by default, and what a model made stays so; nothing personal comes along."""
    upload = encoded(photo(1, 24, 24), "JPEG", xmp=XMP.encode())
    answer = post(client, upload, metadata=metadata).json()
    for part in ("image", "believed"):
        data = fetched(client, answer, part)
        found = texts(data)
        assert found[full("Iptc4xmpExt:DigitalSourceType")] == f"{TERMS}trainedAlgorithmicMedia"
        assert found[full("photoshop:Credit")] == "Agency"
        assert found[full("plus:DataMining")].endswith("DMI-PROHIBITED")
        assert b"https://a.example/" in data
        assert b"secret" not in data
        assert verify(data).pixels == "unchanged"


def test_a_card_in_the_zip(client):
    """On request, also when the answer is asked for again."""
    ask = {"Accept": "application/zip", "Idempotency-Key": "card-1"}
    for _ in range(2):
        sent = post(client, headers=ask, card="true")
        with zipfile.ZipFile(io.BytesIO(sent.content)) as archive:
            found = verify(archive.read("card.png"))
    assert (found.kind, found.pixels) == ("card", "unchanged")
    plain = post(client, headers={"Accept": "application/zip"})
    assert "card.png" not in zipfile.ZipFile(io.BytesIO(plain.content)).namelist()
    refused = post(client, card="true", mask="none")
    assert refused.status_code == 422
