"""The metric `text`: what a declared reader reads otherwise, never mistaken for a person."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pydantic import TypeAdapter, ValidationError

from trustscale_server.conformal import fidelity
from trustscale_server.conformal.fidelity import FidelitySettings, ReaderSettings
from trustscale_server.things import reading as reader
from trustscale_server.things.reading import compared_of, letters_of, misread_words

WORDS = st.lists(st.text("ab1", min_size=1, max_size=4), min_size=1, max_size=4)


class TestMisread:
    @given(WORDS, st.text("ab1", max_size=12))
    def test_a_word_that_is_right_was_read(self, words, reading):
        """Those called right stand in the reading, in their order, without a common letter."""
        place = 0
        for word, is_wrong in zip(words, misread_words(words, reading), strict=True):
            if not is_wrong:
                place = reading.index(word, place) + len(word)

    @given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
    def test_one_change(self, sizes, data):
        """A changed, lost or new letter makes its word wrong; between two words, both; no other."""
        ends = list(accumulate(sizes, initial=0))
        text = "abcdefghijklmnop"[: ends[-1]]
        words = [text[start:end] for start, end in pairwise(ends)]
        assert not any(misread_words(words, text))
        at = data.draw(st.integers(0, len(text) - 1))
        inside = [start <= at < end for start, end in pairwise(ends)]
        assert misread_words(words, f"{text[:at]}z{text[at + 1 :]}") == inside
        assert misread_words(words, text[:at] + text[at + 1 :]) == inside
        beside = [start <= at <= end for start, end in pairwise(ends)]
        assert misread_words(words, f"{text[:at]}z{text[at:]}") == beside

    def test_what_is_compared(self):
        """Letters and digits in lower case; not spaces, punctuation, case and ligatures."""
        assert letters_of("The ﬁrst, No. ４2!") == "thefirstno42"
        assert misread_words([letters_of("--"), "ab"], "xx") == [False, True]
        assert misread_words(["ab"], "") == [True]

    @pytest.mark.parametrize(
        ("number", "other"),
        [
            ("8.5", "85"),
            ("8.5", "8,5"),
            ("−3", "3"),
            ("-3", "+3"),
            (".5", "5"),
            ("1,000", "1.000"),
            ("1/2", "12"),
            ("12:30", "1230"),
            ("2019-20", "201920"),
        ],
    )
    def test_a_number_that_differs_by_a_point(self, number, other):
        """Is another number, both ways."""
        for made, truth in ((number, other), (other, number)):
            words, reading = (compared_of(text) for text in (made, f"a {truth} b"))
            assert misread_words(["a", words, "b"], reading)[1]

    def test_marks_of_no_number(self):
        """Hyphens, full stops and kinds of dashes make no difference."""
        assert compared_of("T-shirts, St. 5.") == "tshirtsst5"
        assert compared_of("–3") == compared_of("−3") == "-3"
        assert compared_of("8.5 %") == "8.5"

    def test_a_line_in_which_nothing_is_read(self):
        """Every word of it is wrong."""
        assert misread_words([compared_of("ab")], compared_of("")) == [True]


class TestSettings:
    def test_they_say_that_a_program_read(self):
        """A reader labels; which one is recorded, and comes back from JSON."""
        settings = FidelitySettings(metric="text")
        assert settings.bound == 1
        assert settings.reader == ReaderSettings()
        assert (
            f"text reader rapidocr version {settings.reader.version}, a program" in settings.clause
        )
        adapter = TypeAdapter(FidelitySettings)
        assert adapter.validate_json(adapter.dump_json(settings)) == settings
        assert reader.missing(settings.reader) is None
        assert reader.missing(ReaderSettings(version="1.0")) == (
            f"rapidocr 1.0 (here is {settings.reader.version}): the extra “text” brings it"
        )
        letters = {"metric": "text", "reader": {"compares": "letters"}}
        with pytest.raises(ValidationError, match="numbers"):  # no release made such calibrations
            adapter.validate_python(letters)

    def test_another_reader_is_refused(self):
        with pytest.raises(ValueError, match="no text reader 'somebody'"):
            ReaderSettings(name="somebody")

    @pytest.mark.parametrize(("metric", "unit"), [("text", "spot"), ("neighborhood", "words")])
    def test_only_text_loses_words(self, metric, unit):
        """The metric `text` is about words whatever is asked for; no other metric is."""
        if metric == "text":
            assert FidelitySettings(metric=metric, unit=unit).unit == "words"
        else:
            with pytest.raises(ValueError, match="words of the metric text"):
                FidelitySettings(metric=metric, unit=unit)


def sign(*words: str) -> Image.Image:
    """Words below each other."""
    picture = Image.new("RGB", (200, 200), (30, 60, 120))
    draw = ImageDraw.Draw(picture)
    for row, word in enumerate(words):
        draw.text((20, 20 + 60 * row), word, "white", ImageFont.load_default(36))
    return picture


def pixels(*words: str) -> np.ndarray:
    return np.asarray(sign(*words))


@pytest.mark.slow
def test_reading():
    """Words with their boxes, and those that another picture shows otherwise, in their order.

    Words of the other picture alone are not looked for; unreadable ones read otherwise.
    """
    made = reader.read_lines(pixels("Exit 42", "CLOSED", ""))
    words = [word for line in made for word in line.words]
    assert [word.text for word in words] == ["Exit", "42", "CLOSED"]
    assert min(word.confidence for word in words) > 0.9
    for word, (left, top, right) in zip(
        words, [(20, 20, 85), (95, 20, 140), (20, 80, 160)], strict=True
    ):
        (x0, y0), (x1, y1) = word.corners.min(axis=0), word.corners.max(axis=0)
        assert np.allclose([x0, y0, x1], [left, top, right], atol=16)
        assert 25 < y1 - y0 < 60
    assert reader.read_otherwise(made, pixels("Exit 42", "CLOSED", "")) == [False] * 3
    other = pixels("Exit 47", "closed", "invented")
    assert reader.read_otherwise(made, other) == [False, True, False]
    blurred = np.asarray(sign("Exit 42", "CLOSED").filter(ImageFilter.GaussianBlur(12)))
    assert reader.read_otherwise(made, blurred) == [True] * 3
    assert reader.read_lines(np.zeros((200, 200, 3), np.uint8)) == []
    assert reader.read_otherwise([], blurred) == []


@pytest.mark.slow
def test_a_line_that_stands_upright():
    """Corners begin where the word begins, also where the line runs downwards."""
    turned = np.ascontiguousarray(np.rot90(pixels("CLOSED", "", ""), -1))
    (word,) = [word for line in reader.read_lines(turned) for word in line.words]
    assert word.text == "CLOSED"
    begin, end = word.corners[[0, 3]].mean(axis=0), word.corners[[1, 2]].mean(axis=0)
    assert begin[1] < end[1] - 80
    assert abs(begin[0] - end[0]) < 12


@pytest.mark.slow
def test_the_error_is_1_in_the_boxes_of_wrong_words():
    """For those who look at a map; the prediction's words are judged."""
    made, truth = pixels("Exit 42", "CLOSED", ""), pixels("Exit 47", "CLOSED", "")
    marks = fidelity.error(
        truth, made, FidelitySettings(metric="text"), label=reader.misread(truth, made)
    )
    assert set(np.unique(marks)) == {0, 1}
    assert marks[30:45, 100:115].all()
    assert not marks[:, :80].any()
    assert not marks[80:].any()
