"""The metric `text`: what a declared reader reads otherwise, never mistaken for a person."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pydantic import TypeAdapter

from trustscale_server.conformal import fidelity, reader
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.conformal.reader import ReaderSettings, letters_of, misread

WORDS = st.lists(st.text("ab1", min_size=1, max_size=4), min_size=1, max_size=4)


class TestMisread:
    @given(WORDS, st.text("ab1", max_size=12))
    def test_a_word_that_is_right_was_read(self, words, reading):
        """Those called right stand in the reading, in their order, without a common letter."""
        place = 0
        for word, is_wrong in zip(words, misread(words, reading), strict=True):
            if not is_wrong:
                place = reading.index(word, place) + len(word)

    @given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
    def test_one_change(self, sizes, data):
        """A changed, lost or new letter makes its word wrong; between two words, both; no other."""
        ends = list(accumulate(sizes, initial=0))
        text = "abcdefghijklmnop"[: ends[-1]]
        words = [text[start:end] for start, end in pairwise(ends)]
        assert not any(misread(words, text))
        at = data.draw(st.integers(0, len(text) - 1))
        inside = [start <= at < end for start, end in pairwise(ends)]
        assert misread(words, f"{text[:at]}z{text[at + 1 :]}") == inside
        assert misread(words, text[:at] + text[at + 1 :]) == inside
        beside = [start <= at <= end for start, end in pairwise(ends)]
        assert misread(words, f"{text[:at]}z{text[at:]}") == beside

    def test_what_is_compared(self):
        """Letters and digits in lower case; not spaces, punctuation, case and ligatures."""
        assert letters_of("The ﬁrst, No. ４2!") == "thefirstno42"
        assert misread([letters_of("--"), "ab"], "xx") == [False, True]
        assert misread(["ab"], "") == [True]


class TestSettings:
    def test_they_say_that_a_program_read(self):
        """A reader labels; which one is recorded, and comes back from JSON."""
        settings = FidelitySettings(metric="text")
        assert settings.bound == 1
        assert settings.reader == ReaderSettings(version=reader.VERSION)
        assert f"text reader rapidocr version {reader.VERSION}, a program" in settings.clause
        adapter = TypeAdapter(FidelitySettings)
        assert adapter.validate_json(adapter.dump_json(settings)) == settings
        assert settings.missing is None
        older = FidelitySettings(metric="text", reader=ReaderSettings(version="1.0"))
        assert older.missing == (
            f"rapidocr 1.0 (here is {reader.VERSION}): the extra “text” brings it"
        )

    @pytest.mark.parametrize(
        "wrong",
        [{"name": "somebody"}, {"legible": 0}, {"legible": 1}, {"margin": 2}],
    )
    def test_wrong_ones(self, wrong):
        """A reader that does not exist, and thresholds that make no sense, are refused."""
        with pytest.raises(ValueError, match="reader"):
            ReaderSettings(**wrong)


def sign(*words: str) -> Image.Image:
    """Words below each other."""
    picture = Image.new("RGB", (200, 200), (30, 60, 120))
    draw = ImageDraw.Draw(picture)
    for row, word in enumerate(words):
        draw.text((20, 20 + 60 * row), word, "white", ImageFont.load_default(36))
    return picture


@pytest.mark.slow
def test_labels():
    """D is 1 around the words that read otherwise, and 0 where the truth has none that can be read.

    A word that cannot be read in the result is wrong; one that only the result has is not counted.
    """

    def marks(truth, made):
        pixels = (np.asarray(one) for one in (truth, made))
        return fidelity.error(*pixels, FidelitySettings(metric="text"))

    truth = sign("Exit 42", "CLOSED", "")
    assert not marks(truth, truth).any()
    other = marks(truth, sign("Exit 47", "closed", "invented"))
    rows, columns = np.nonzero(other)
    ink = np.asarray(sign("42").convert("L"))[20:60] > 200
    assert set(np.unique(other)) == {0, 1}
    assert 10 <= rows.min() <= 25
    assert 50 <= rows.max() <= 75
    assert columns.min() > 20 + 40  # behind `Exit`
    assert other[25:50, 100:115].all()
    assert ink.any()
    blurred = truth.filter(ImageFilter.GaussianBlur(12))
    assert not marks(blurred, truth).any()
    gone = marks(truth, blurred)
    assert gone[30:50, 30:110].all()
    assert gone[90:110, 30:110].all()
    assert not gone[140:].any()
