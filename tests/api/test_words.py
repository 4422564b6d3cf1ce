"""Which words can be believed: by a calibration for text, over HTTP."""

import pytest

from harness.factories import encoded, photo
from harness.fakes import FakeUpscaler
from harness.gateway import aside, check_problem, post
from tests.reading import TEXTS, calibration_for_text, pretend, upload
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.things import reading
from trustscale_server.upscalers.base import Capabilities


@pytest.fixture(scope="module")
def for_text():
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        yield aside(calibration_for_text(FakeUpscaler()))


@pytest.mark.parametrize("is_first", [True, False])
def test_words_of_an_answer(start, calibration, for_text, is_first):
    """That of colours answers; with words=true that for text does, whichever is the first."""
    active = [for_text, calibration]
    client = start(calibrations=active if is_first else active[::-1])
    assert post(client).json()["words"] is None
    answer = post(client, upload(), words="true", alpha=0.04).json()
    assert (answer["calibration"], answer["guarantee"]["unit"]) == (for_text.id, "words")
    found = {word["text"]: word for word in answer["words"]}
    assert list(found) == list(TEXTS)
    assert [word["trusted"] for word in found.values()] == [True, True, False]
    assert found["Exit"]["trust_level"] <= answer["alpha"]
    assert found["Exit"]["box"] == [[6, 4], [40, 4], [40, 12], [6, 12]]
    plain = answer["guarantee"]["plain"]
    assert plain.startswith("Of the words called right at most 4 % are wrong, on average over")
    assert answer["guarantee"]["theorem"].startswith("Let L be the share of wrong words")
    assert answer["review"]["needs_review"]  # each of the calibrating pictures has a wrong word
    assert "it holds an error (words that a text reader" in answer["review"]["bad"]


def test_of_a_smaller_picture_and_the_truth(start, for_text):
    """Boxes are those of the picture; the loss is the share of wrong words called right."""
    client = start(calibrations=[for_text])
    asked = {"words": "true", "seed": 1, "alpha": 0.04}
    whole, small = (post(client, upload(), **asked, **to).json() for to in ({}, {"to": 24}))
    assert small["words"][0]["box"] == [[3, 2], [20, 2], [20, 6], [3, 6]]
    for one, other in zip(whole["words"], small["words"], strict=True):
        assert (one["trusted"], one["trust_level"]) == (other["trusted"], other["trust_level"])
    truth = {"image": ("y.png", encoded(photo(1, 48, 48)), "image/png")}
    told = client.post(f"{whole['links']['self']}/truth", files=truth).json()
    assert (told["loss"], told["loss_anywhere"]) == (0, 0)


def test_the_shipped_calibration(start, monkeypatch):
    """A fresh installation answers words with it, and says what it was made of."""
    pretend(monkeypatch)
    shipped = shipped_calibration("span-x4-f32-text")
    aligned = {"fingerprint": shipped.pipeline.fingerprint, "capabilities": Capabilities()}
    client = start(FakeUpscaler(scale=4, **aligned), calibrations=[])
    answer = post(client, upload(), words="true").json()
    assert answer["calibration"] == shipped.for_upscaler("fake").id
    assert [word["text"] for word in answer["words"]] == list(TEXTS)
    assert not answer["words"][-1]["trusted"]
    assert answer["guarantee"]["calibrated_on"].startswith("Text rendered over")
    other = post(client, upload()).json()
    assert (other["words"], other["guarantee"]["unit"]) == (None, "spot")


def test_without_a_calibration_for_text(client):
    """Nothing is said of words."""
    assert "--metric text" in check_problem(post(client, words="true"), "no-calibration")["detail"]
    check_problem(post(client, words="true", mask="none"), "bad-request")


def test_without_the_reader(start, for_text, monkeypatch):
    """Who asks for words gets told what the service lacks, in words of ours, before any sample."""
    client = start(calibrations=[for_text])
    monkeypatch.setattr(reading, "missing", lambda reader: "a reader")
    problem = check_problem(post(client, upload(), words="true"), "no-calibration")
    assert problem["detail"].startswith("This service cannot read words: it lacks a reader")
