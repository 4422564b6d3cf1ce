"""Faces and letters are left out of masks of colours: what an answer lists, and its files."""

import io
import json
import zipfile

import numpy as np
import pytest
import skimage.data
from PIL import Image

from harness.factories import calibration_of, encoded
from harness.fakes import FakeUpscaler
from harness.gateway import aside, ended, pixels, post
from tests.reading import LINES, TEXTS, calibration_for_text, pretend
from tests.reading import upload as text_upload
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.conformal.error_metrics import METRICS
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.serving.looked_for import is_about_colours

NEVER = 65535
EVERYWHERE = 1.2  # an α at which all is trusted that was ever seen


@pytest.fixture
def client(start):
    return start(faces="leave_out")


@pytest.fixture(scope="module")
def portrait():
    """An upload of 128 pixels with one face."""
    return encoded(Image.fromarray(skimage.data.astronaut()).resize((128, 128), 3))


def part(thing):
    """The pixels of an upright box, as rows and columns."""
    (left, top), _, (right, bottom), _ = thing["box"]
    return np.s_[int(top) : int(bottom), int(left) : int(right)]


def files_of(client, answer, *names, **query):
    found = (client.get(answer["links"][name], params=query) for name in names)
    return [pixels(file.content) for file in found]


def test_a_face_is_in_no_mask(client, portrait):
    """It has no trust level, is black at every α and not counted; elsewhere all stays."""
    kept = post(client, portrait, alpha=EVERYWHERE, faces="keep").json()
    answer = post(client, portrait, alpha=EVERYWHERE).json()
    assert kept["left_out"] == []
    [face] = answer["left_out"]
    assert (face["kind"], face["why"]) == ("face", "A face. Nobody can promise who this is.")
    (left, top), _, (right, bottom), _ = face["box"]
    assert 75 < left < 95 < 135 < right < 150
    assert 20 < top < 32 < 86 < bottom < 100
    mask, codes = files_of(client, answer, "mask", "trust")
    others, other_codes = files_of(client, kept, "mask", "trust")
    inside = np.zeros(mask.shape, bool)
    inside[part(face)] = True
    assert others[inside].any()
    assert not mask[inside].any()
    assert (codes[inside] == NEVER).all()
    for links in ({"alpha": 0.05}, {"alpha": 99}):
        assert not files_of(client, answer, "mask", **links)[0][inside].any()
    edge = np.zeros(mask.shape, bool)
    edge[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = True
    assert (mask == others)[~edge].all()
    assert (codes == other_codes)[~edge].all()
    assert answer["trusted_fraction"] == pytest.approx((mask > 0).mean())
    assert answer["trusted_fraction"] < kept["trusted_fraction"]
    assert answer["guarantee"] == kept["guarantee"]


def test_believed_shows_the_upload_there(client, portrait):
    """In `believed.png` a face is the upload's, enlarged."""
    answer = post(client, portrait, alpha=EVERYWHERE).json()
    [face] = answer["left_out"]
    image, believed = files_of(client, answer, "image", "believed")
    plain = Image.open(io.BytesIO(portrait)).resize((256, 256), Image.Resampling.BICUBIC)
    middle = np.s_[40:80, 100:125]
    assert not np.array_equal(image[middle], believed[middle])
    assert np.abs(believed[middle].astype(int) - np.asarray(plain)[middle]).max() <= 1
    assert part(face)[0].start < 40


def test_a_face_needs_a_look(client, portrait):
    """No picture with a face passes by its colours alone, and the answer says why."""
    answer, kept = (post(client, portrait, faces=faces).json() for faces in ("", "keep"))
    assert answer["review"]["needs_review"]
    assert answer["review"]["p_value"] == 1
    assert answer["review"]["reason"] == "It shows a face, of which colours say nothing."
    assert kept["review"]["reason"] != answer["review"]["reason"]


def test_boxes_follow_the_size(client, portrait):
    """Boxes are those of the picture that is returned."""
    whole, small = (post(client, portrait, **to).json()["left_out"] for to in ({}, {"to": 128}))
    assert [[x / 2, y / 2] for x, y in whole[0]["box"]] == small[0]["box"]


def test_zips_and_jobs_list_them(client, portrait):
    """The document in a zip and that of a job have the same list."""
    listed = post(client, portrait, seed=1).json()["left_out"]
    packed = post(client, portrait, seed=1, headers={"Accept": "application/zip"}).content
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert json.loads(archive.read("result.json"))["left_out"] == listed
    job = post(client, portrait, seed=1, headers={"Prefer": "respond-async"}).headers["location"]
    assert client.get(ended(client, job)["result"]).json()["left_out"] == listed


def test_a_card_frames_faces(client, portrait):
    """A card of a picture with a face differs along its frame, and says so below."""
    answer, kept = (post(client, portrait, faces=faces).json() for faces in ("", "keep"))
    one, other = (
        pixels(client.get(f"{made['links']['self']}/card.png", params={"alpha": 0}).content)
        for made in (answer, kept)
    )
    assert one.shape[1] == other.shape[1]
    (left, top), _, (right, bottom), _ = answer["left_out"][0]["box"]
    shift = (one.shape[1] - answer["width"]) // 2  # a narrow picture has paper beside it
    picture = (one[:256] != other[:256]).any(axis=2)
    rows, columns = np.nonzero(picture)
    assert abs(columns.min() - shift - left) <= 2
    assert abs(columns.max() - shift - right) <= 2
    assert abs(rows.min() - top) <= 2
    assert abs(rows.max() - bottom) <= 2
    assert not picture[60, shift + 100 : shift + 120].any()


def test_operators_may_keep_faces(start, portrait):
    """A setting says what requests mean that do not say it."""
    client = start(faces="keep")
    assert post(client, portrait).json()["left_out"] == []
    assert "faces" not in post(client, portrait).json()["timings_ms"]
    assert len(post(client, portrait, faces="leave_out").json()["left_out"]) == 1


def test_without_a_mask_nothing_can_be_left_out(client, portrait):
    """faces and letters are about a mask."""
    for field in ("faces", "letters"):
        response = post(client, portrait, mask="none", **{field: "keep"})
        assert response.status_code == 422
        assert "mask=none makes none" in response.text
    assert "left_out" not in post(client, portrait, mask="none").json()


class TestLetters:
    """A reader that reads three words in every picture; the third one wrongly."""

    def test_all_lines_without_a_calibration_for_words(self, start, calibration, monkeypatch):
        """Each line is left out once, though it is found in both pictures."""
        pretend(monkeypatch)
        client = start(calibrations=[calibration], letters="leave_out")
        answer = post(client, text_upload(), alpha=EVERYWHERE).json()
        boxes = [thing["box"] for thing in answer["left_out"]]
        assert boxes == [line.corners.tolist() for line in LINES]
        assert {thing["kind"] for thing in answer["left_out"]} == {"text"}
        mask, codes = files_of(client, answer, "mask", "trust")
        for line in LINES:
            (left, top), _, (right, bottom), _ = line.corners.astype(int).tolist()
            assert not mask[top : bottom + 1, left : right + 1].any()
            assert (codes[top : bottom + 1, left : right + 1] == NEVER).all()
        assert answer["review"]["reason"] == "It shows text, of which colours say nothing."
        assert mask.any()

    def test_words_that_are_called_right_stay(self, start, monkeypatch):
        """What a calibration for words of one sample calls right stays in the mask of colours."""
        pretend(monkeypatch)
        upscaler = FakeUpscaler()
        for_words, of_colours = (
            aside(made)
            for made in (
                calibration_for_text(upscaler, samples=1),
                calibration_of(upscaler),
            )
        )
        client = start(calibrations=[for_words, of_colours], letters="leave_out")
        asked = post(client, text_upload(), words="true").json()
        right = [word["trusted"] for word in asked["words"]]
        assert right == [True, True, False]
        answer = post(client, text_upload(), alpha=EVERYWHERE).json()
        doubtful = LINES[2].corners.tolist()
        assert [thing["box"] for thing in answer["left_out"]] == [doubtful]
        assert asked["left_out"] == []  # a promise about words keeps them
        assert len(TEXTS) == 3

    def test_another_number_of_samples_judges_nothing(self, start, calibration, monkeypatch):
        """A calibration for words of other samples than Ŷ is made of says nothing of its words."""
        pretend(monkeypatch)
        for_words = aside(calibration_for_text(FakeUpscaler()))
        client = start(calibrations=[for_words, calibration], letters="leave_out")
        answer = post(client, text_upload(), alpha=EVERYWHERE).json()
        assert len(answer["left_out"]) == len(LINES)
        assert post(client, text_upload(), letters="keep").json()["left_out"] == []


def test_both_are_left_out_by_default(monkeypatch, tmp_path):
    """A fresh installation leaves faces and letters out."""
    for name in ("FACES", "LETTERS"):
        monkeypatch.delenv(f"TRUSTSCALE_{name}")
    settings = Settings(data_dir=tmp_path)
    assert (settings.faces, settings.letters) == ("leave_out", "leave_out")


def test_judgements_of_people_and_words_keep_them():
    """Only promises about colours and structures leave faces and letters out."""
    about = {name for name in METRICS if is_about_colours(FidelitySettings(metric=name))}
    assert about == set(METRICS) - {"semantic", "text"}
