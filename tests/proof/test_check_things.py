"""Faces and lines of text in two pictures: which of them shows what."""

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageFont

from tests.proof.test_check import LARGE_ONE, SMALL, SMALL_ONE, TRUTH
from trustscale_server.proof.check.card import check_card
from trustscale_server.proof.check.check import check_pictures
from trustscale_server.proof.check.report import html_report
from trustscale_server.proof.check.things import Finders, finders, sentences_about
from trustscale_server.serving.finders import FaceFinder
from trustscale_server.things import reading
from trustscale_server.things.faces import Face

BICUBIC = Image.Resampling.BICUBIC
FACE = 182, 58, 270, 178  # of the astronaut, in the picture of 512 pixels


def seen(*boxes):
    """A finder that finds these in the small picture, and those in the large one."""
    answers = iter([[Face(*box, 0.9) for box in found] for found in boxes])
    return Finders(faces=lambda view, scale: next(answers))


def line_of(text, left, top, right, bottom):
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float32)
    word = reading.Word(text, 0.9, corners.astype(np.float64))
    return reading.Line(corners, (word,))


def read(*pictures):
    answers = iter([[line_of(*line) for line in lines] for lines in pictures])
    return Finders(lines=lambda view: next(answers))


def things_of(finding, large=LARGE_ONE, small=SMALL):
    return check_pictures(small, np.asarray(large), finding).check.things


def test_faces_of_both():
    """One face where boxes meet, else a face of one picture; what differs comes first."""
    things = things_of(
        seen([(80, 60, 160, 150), (300, 20, 340, 60)], [(84, 64, 164, 150), (10, 200, 60, 260)])
    )
    assert [(thing.found_in, thing.differs) for thing in things] == [
        ("large", True),
        ("small", True),
        ("both", False),
    ]
    assert things[2].box == pytest.approx([84, 64, 164, 150], abs=2)
    assert list(sentences_about(things)) == ["A face is found in the large picture only."]


@pytest.mark.parametrize(
    ("large", "box"),
    [
        (LARGE_ONE.crop((48, 32, 352, 336)), [52, 68, 112, 118]),
        (LARGE_ONE.transpose(Image.Transpose.FLIP_LEFT_RIGHT), [224, 100, 284, 150]),
    ],
)
def test_boxes_are_in_pixels_of_the_large_file(large, box):
    """As it was given: cropped or mirrored."""
    shown = 100 - (48 if large.width < 384 else 0), 100 - (32 if large.width < 384 else 0)
    at = (*shown, shown[0] + 60, shown[1] + 50)
    (one,) = things_of(seen([at], [at]), large)
    assert one.box == pytest.approx(box, abs=2)


def test_lines_of_both():
    """Readings are compared by letters, digits and signs; a line may be in one picture only."""
    things = things_of(
        read(
            [("MILAN", 10, 10, 90, 30), ("-8.5 V", 10, 50, 90, 70), ("Exit", 10, 90, 90, 110)],
            [("MIRAN", 11, 10, 90, 30), ("85 v", 10, 50, 92, 70), ("EXIT!", 10, 90, 90, 110)],
        )
    )
    assert [(thing.reads, thing.differs) for thing in things] == [
        (["MILAN", "MIRAN"], True),
        (["-8.5 V", "85 v"], True),
        (["Exit", "EXIT!"], False),
    ]
    assert things[0].why == "The small picture reads “MILAN” here, the large one “MIRAN”."
    assert list(sentences_about(things)) == [
        "2 lines of text read otherwise in the large picture than in the small one."
    ]
    (only,) = things_of(read([], [("PAID", 10, 10, 90, 30)]))
    assert (only.found_in, only.reads, only.differs) == ("large", ["", "PAID"], True)


def test_nothing_is_looked_for_without_finders():
    assert things_of(None) == []
    assert check_pictures(SMALL, SMALL[::-1].copy(), seen([], [])).check.things == []


def test_a_face_that_was_pasted(monkeypatch):
    """The shipped finder sees a face in the large picture that the small one lacks; one that both
    have is said to be in both.
    """
    monkeypatch.setattr(reading, "missing", lambda reader: "not here")
    truth = Image.fromarray(skimage.data.astronaut())
    small = truth.resize((128, 128), BICUBIC)
    finding = finders(FaceFinder("full"))
    assert finding.lines is None
    (one,) = things_of(finding, small.resize((512, 512), BICUBIC), np.asarray(small))
    assert (one.kind, one.found_in) == ("face", "both")
    assert np.abs(np.subtract(one.box, FACE)).max() < 45
    scene = LARGE_ONE.copy()
    scene.paste(truth.crop(FACE), (40, 60))
    (one,) = things_of(finding, scene)
    assert one.found_in == "large"
    assert one.box[0] < 84 < one.box[2]


@pytest.mark.skipif(finders(None).lines is None, reason="the extra text")
def test_a_word_that_was_changed():
    """The reader reads another word in the large picture than in the small one."""
    pages = []
    for word in ("MILAN", "MERAN"):
        page = LARGE_ONE.resize((512, 512), BICUBIC)
        draw = ImageDraw.Draw(page)
        draw.rectangle((60, 200, 420, 300), "white")
        draw.text((90, 205), word, "black", ImageFont.load_default(72))
        pages.append(page)
    small = np.asarray(pages[0].resize((128, 128), BICUBIC))
    things = things_of(finders(None), pages[1], small)
    (one,) = [thing for thing in things if thing.kind == "text" and "MERAN" in thing.reads[1]]
    assert one.differs
    assert one.reads[0] == "MILAN"


def test_a_report_lists_them():
    """With a frame around what differs."""
    finding = seen([], [(10, 200, 60, 260)])
    checked = check_pictures(SMALL, TRUTH, finding)
    page = html_report(SMALL, TRUTH, checked)
    assert page.count('<i class="thing"') == 1
    assert checked.check.things[0].why in page
    assert any(sentence.startswith("A face is found") for sentence in checked.check.sentences)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_card(form):
    """The picture with frames around contradictions, and words below; large ones are reduced."""
    patched = TRUTH.copy()
    patched[180:228, 140:188] = 255 - patched[180:228, 140:188]
    told = check_pictures(SMALL, patched).check
    made = Image.open(io.BytesIO(check_card(SMALL, patched, told, form)))
    assert made.format.lower() == form
    assert made.width == 384
    assert made.height > 384 + 40
    changed = np.abs(np.asarray(made, np.int16)[:384] - patched).max(axis=2) > 60
    box = told.contradictions[0].box
    frame = changed[:, box[0] - 4 : box[0] + 4][box[1] : box[3]].any(axis=1)
    assert frame.all()  # its left line
    assert changed.mean() < 0.05


def test_a_card_says_what_was_found():
    """A verdict, and always that silence proves nothing; strangers have another."""
    cards = []
    for large in (LARGE_ONE, SMALL_ONE.rotate(90).resize((3000, 1500))):
        pixels = np.asarray(large)
        told = check_pictures(SMALL, pixels).check
        cards.append(Image.open(io.BytesIO(check_card(SMALL, pixels, told, "png"))))
    assert cards[0].width == 384
    assert cards[1].width == 1600
