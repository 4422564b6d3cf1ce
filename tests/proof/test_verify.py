"""Marks in files of ours, and what can be told of a file that may have one."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trustscale_server.images.xmp import texts_of
from trustscale_server.proof.marks import (
    EDITED,
    Mark,
    completed,
    mark_in,
    packet,
    percent,
    source_type,
)
from trustscale_server.proof.verify import NO_MARK, verify

TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MARK = Mark(
    kind="picture",
    upscaler="realesr-x4",
    version="3f2a",
    scale=4,
    upload=(150, 100),
    size=(0, 0),
    calibration="cal-1",
    alpha=0.05,
    share=0.62,
    promise="In 9 of 10 spots colours are right within 9 of the 100 steps of lightness.",
)


def photograph(width=600, height=400):
    """Shapes of several sizes, uint8 [height, width, 3]."""
    random = np.random.default_rng(3)
    coarse = Image.fromarray(random.integers(0, 256, (8, 12, 3), np.uint8))
    fine = Image.fromarray(random.integers(0, 256, (60, 90, 3), np.uint8))
    size = (width, height)
    both = Image.blend(coarse.resize(size, 3), fine.resize(size, 3), 0.3)
    return np.asarray(both)


def written(pixels, mark, form="PNG", **options):
    out = io.BytesIO()
    xmp = packet(mark)
    if form == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        Image.fromarray(pixels).save(out, form, pnginfo=info)
    elif form == "TIFF":
        Image.fromarray(pixels).save(out, form, tiffinfo={700: xmp}, **options)
    else:
        Image.fromarray(pixels).save(out, form, xmp=xmp, **options)
    return out.getvalue()


PIXELS = photograph()
MARKED = MARK.with_pixels(PIXELS)


def test_a_mark_is_read_as_it_was_written():
    texts = texts_of(packet(MARKED))
    assert mark_in(texts) == MARKED
    assert texts["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == EDITED
    assert texts["{http://ns.adobe.com/xap/1.0/}CreatorTool"].startswith("trustscale ")
    # Detectors search the bytes.
    assert b"Iptc4xmpExt:DigitalSourceType" in packet(MARKED)


@pytest.mark.parametrize(
    ("upload", "now"),
    [
        ("", "compositeWithTrainedAlgorithmicMedia"),
        ("digitalCapture", "compositeWithTrainedAlgorithmicMedia"),
        ("trainedAlgorithmicMedia", "trainedAlgorithmicMedia"),
        ("compositeSynthetic", "compositeSynthetic"),
    ],
)
def test_the_source_type_of_an_upload(upload, now):
    """What a model made stays so; anything else was edited by one. The upload's own is kept."""
    assert source_type(TERMS + upload) == TERMS + now
    kept = f"""<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
        xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><r:Description r:about=""
        i:DigitalSourceType="{TERMS + upload}"/></r:RDF>"""
    texts = texts_of(packet(MARKED, kept.encode()))
    assert texts["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == TERMS + now
    before = texts.get("{urn:trustscale:mark:1#}sourceTypeOfUpload")
    assert before == (None if upload == now else TERMS + upload)


def test_unchanged_pixels():
    found = verify(written(PIXELS, MARKED))
    assert (found.mark, found.pixels, found.signed) == ("xmp", "unchanged", "no")
    assert found.holds
    assert (found.alpha, found.trusted_fraction, found.upload) == (0.05, 0.62, [150, 100])
    assert found.sentences == [
        "A picture enlarged ×4 from 150 × 100 pixels by realesr-x4.",
        "62\u00a0% of it can be relied on for colour, at an accepted error of 0.05.",
        f"Its promise: {MARK.promise}",
        "Its pixels have not changed since it was marked.",
        "Nobody signed it: anybody can write such a mark.",
    ]


def test_another_compression_without_loss_is_the_same():
    """The digest is of the values, not of the bytes of the file."""
    first = written(PIXELS, MARKED)
    again = written(
        np.asarray(Image.open(io.BytesIO(first))), MARKED, "TIFF", compression="tiff_lzw"
    )
    assert verify(again).pixels == "unchanged"


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
def test_a_lossy_file_has_the_digest_of_its_own_pixels(form):
    """It is written into the file, so that the file as it was sent is unchanged."""
    data = written(PIXELS, MARK.pending(PIXELS), form, quality=90)
    done = completed(data, np.asarray(Image.open(io.BytesIO(data))))
    assert len(done) == len(data)
    assert verify(done).pixels == "unchanged"
    assert verify(data).pixels == "changed"


@pytest.mark.parametrize("quality", [30, 80, 95])
def test_a_picture_that_was_saved_again(quality):
    """Compression is told from a change; what cannot be told is said."""
    found = verify(written(PIXELS, MARKED, "JPEG", quality=quality))
    assert found.pixels == "saved_again"
    assert not found.holds
    assert any("cannot be told from compression" in sentence for sentence in found.sentences)


def test_a_picture_that_was_made_smaller():
    small = np.asarray(Image.fromarray(PIXELS).resize((301, 201)))
    assert verify(written(small, MARKED, "JPEG", quality=80)).pixels == "resized"


@pytest.mark.parametrize("box", [(0, 0, 600, 300), (100, 50, 400, 250), (0, 0, 590, 400)])
def test_a_picture_that_was_cropped(box):
    """Also where it keeps its shape."""
    part = np.asarray(Image.fromarray(PIXELS).crop(box))
    found = verify(written(part, MARKED, "JPEG", quality=80))
    assert found.pixels == "cropped"
    assert "Share and promise are about the picture before that." in found.sentences


def test_a_picture_that_was_changed():
    """Where it was changed is said."""
    forged = PIXELS.copy()
    forged[100:160, 300:360] = 255
    found = verify(written(forged, MARKED, "JPEG", quality=80))
    assert found.pixels == "changed"
    left, top, right, bottom = found.changed
    assert left <= 0.5 <= 0.6 <= right < 0.65
    assert 0.2 < top <= 0.25 <= 0.4 <= bottom


def test_a_card_without_its_caption():
    strip = np.full((60, 600, 3), 250, np.uint8)
    mark = Mark(**{**fields_of(MARK), "kind": "card", "rows": 400}).with_pixels(
        np.concatenate([PIXELS, strip])
    )
    found = verify(written(PIXELS, mark))
    assert found.pixels == "cropped"
    assert "Its caption was cut off." in found.sentences


def fields_of(mark):
    return {name: getattr(mark, name) for name in mark.__dataclass_fields__}


@pytest.mark.parametrize(
    "xmp",
    [
        b"",
        b"<x",
        b'<!DOCTYPE x [<!ENTITY a "a">]><x>&a;</x>',
        packet(MARKED).replace(b"150x100", b"150"),
        packet(MARKED).replace(b">picture<", b">film<"),
        packet(MARKED).replace(b"urn:trustscale", b"urn:other"),
    ],
)
def test_no_mark_of_ours(xmp):
    """A file without a mark, with a damaged one or with somebody else's: nothing is claimed."""
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "JPEG", **({"xmp": xmp} if xmp else {}))
    found = verify(out.getvalue())
    assert (found.mark, found.what, found.pixels) == ("none", NO_MARK, None)
    assert not found.holds


def test_a_mark_with_odd_values():
    """Texts of a foreign file reach a terminal on one line and without control characters."""
    evil = Mark(**{**fields_of(MARKED), "upscaler": "a\nb\u202e", "look": "AAAA", "pixels": "x"})
    found = verify(written(PIXELS, evil))
    assert found.upscaler == "a b"
    assert found.pixels == "unknown"
    assert not any("\n" in sentence for sentence in found.sentences)


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0"), (0.001, "Less than 1"), (0.62, "62"), (0.998, "99"), (1, "100")],
)
def test_percent(share, words):
    """Only all is 100 %, and only nothing is 0 %."""
    assert percent(share) == f"{words}\u00a0%"
