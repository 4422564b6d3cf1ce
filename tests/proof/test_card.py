"""Cards: a picture with a caption below it."""

import io

import numpy as np
import pytest
from PIL import Image

from trustscale_server.proof.card import MIN_WIDTH, BarSegment, Caption, card, letter_size
from trustscale_server.proof.card_recognition import resembles_card
from trustscale_server.proof.lettering import REGULAR, StyledText, width_of, wrapped

CAPTION = Caption(
    lead="62\u00a0% of it can be relied on for colour.",
    text="It is soft where the model may have made it up.",
    origin="Enlarged ×4 from 100 × 75 by realesr-x4 · α = 0.05",
    check="Trustscale 8f3a 21c9 6e04",
    bar=(BarSegment(0.62, "solid"), BarSegment(0.38, "doubtful")),
)


def picture(width, height, channels=3):
    values = np.random.default_rng(1).integers(0, 256, (height // 4 + 1, width // 4 + 1, channels))
    large = values.astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    return np.ascontiguousarray(large[:height, :width])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(400, 300), (1200, 500), (333, 900), (2000, 2000)])
def test_nothing_lies_over_the_picture(size, theme):
    """The picture's pixels are exactly those that were given, and the strip is below them."""
    pixels = picture(*size)
    made = card(pixels, CAPTION, theme=theme)
    assert made.shape[1] == size[0]
    assert np.array_equal(made[: size[1]], pixels)
    assert 0.05 * size[0] < len(made) - size[1] < 0.35 * size[0]


def test_transparency():
    """Transparent parts stay so, and the strip is opaque."""
    pixels = picture(400, 300, 4)
    made = card(pixels, CAPTION)
    assert np.array_equal(made[:300], pixels)
    assert (made[300:, :, 3] == 255).all()


def test_a_narrow_picture_has_paper_beside_it():
    pixels = picture(60, 80)
    made = card(pixels, CAPTION)
    assert made.shape[1] == MIN_WIDTH
    left = (MIN_WIDTH - 60) // 2
    assert np.array_equal(made[:80, left : left + 60], pixels)
    assert (made[:80, :left] == made[-1, 0]).all()


def test_frames_are_lines_around_their_boxes():
    """Inside and outside of a frame the picture is unchanged, also where it leaves the picture."""
    pixels = picture(400, 300)
    framed = card(pixels, CAPTION, frames=[(100, 50, 200, 150), (350, 250, 500, 400)])[:300]
    changed = (framed != pixels).any(axis=2)
    assert not changed[50:150, 100:200].any()
    assert not changed[:40].any()
    assert changed[49, 100:200].all()
    assert changed[249, 350:400].all()


@pytest.mark.parametrize("share", [0, 0.004, 0.5, 1])
def test_the_bar_shows_the_share(share):
    """So much of the bar is ink."""
    bar = (BarSegment(share, "solid"), BarSegment(1 - share, "doubtful"))
    caption = Caption(CAPTION.lead, CAPTION.text, CAPTION.origin, CAPTION.check, bar)
    plain = Caption(CAPTION.lead, CAPTION.text, CAPTION.origin, CAPTION.check)
    pixels = np.full((750, 1000, 3), 128, np.uint8)
    made = card(pixels, caption)[750:]
    assert len(made) > len(card(pixels, plain)) - 750
    row = made[round(0.95 * letter_size(1000, 750)) + 1]
    ink = (row == (22, 25, 28)).all(axis=1)
    inner = 1000 - 2 * round(1.15 * letter_size(1000, 750))
    assert abs(ink.sum() - share * inner) <= 1


def test_letters_are_never_too_small():
    """They have at least 13 pixels, and more where the picture is larger; a strip is no picture."""
    assert letter_size(400, 300) == 13
    assert letter_size(4000, 3000) == 86
    assert letter_size(4000, 300) == 13


@pytest.mark.parametrize("text", ["α = 0.05 ×4", "Улучшатель", "Ελλάς", "ěščřž"])
def test_scripts_with_letters_of_their_own(text):
    """Latin, Greek and Cyrillic are drawn by the fonts that are shipped."""
    drawn = [
        piece.font.path
        for line in wrapped([StyledText(text, REGULAR, (0, 0, 0))], 20, 500)
        for piece in line
    ]
    assert all("source-sans-3" in path for path in drawn)
    said = [
        piece.text
        for line in wrapped([StyledText(text, REGULAR, (0, 0, 0))], 20, 500)
        for piece in line
    ]
    assert "".join(said) == text


def test_a_letter_that_no_font_has():
    """It is drawn as a question mark, not as a box."""
    (line,) = wrapped([StyledText("a\U0010fffeb", REGULAR, (0, 0, 0))], 20, 500)
    assert "".join(piece.text for piece in line) == "a?b"


def test_lines_are_as_wide_as_they_may_be():
    """Lines break at spaces, never at a hard one, and a word without one is cut."""
    text = "one two\u00a0three four five " + 80 * "x"
    lines = wrapped([StyledText(text, REGULAR, (0, 0, 0))], 20, 120)
    assert all(width_of(line) <= 120 for line in lines)
    said = ["".join(piece.text for piece in line) for line in lines]
    assert said[-1].endswith("…")
    assert any("two\u00a0three" in line for line in said)


def test_no_word_is_left_alone():
    """The line before gives it company, if it can; one long word cannot."""
    text = "Too little was measured on pictures like it."
    for width in range(200, 420, 4):
        lines = wrapped([StyledText(text, REGULAR, (0, 0, 0))], 20, width)
        assert all(width_of(line) <= width for line in lines)
        assert len(lines) == 1 or width_of(lines[-1]) >= width / 4
    (long,) = wrapped([StyledText(9 * "m", REGULAR, (0, 0, 0))], 20, 500)
    lines = wrapped([StyledText(9 * "m" + " i", REGULAR, (0, 0, 0))], 20, width_of(long) + 1)
    assert [line[0].text for line in lines] == [9 * "m", "i"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_card_is_known_again_after_a_mail(theme):
    """A strip with a bar is seen in a JPEG of quality 80; a photograph has none."""
    made = card(picture(900, 600), CAPTION, theme=theme)
    file = io.BytesIO()
    Image.fromarray(made).save(file, "JPEG", quality=80)
    again = np.asarray(Image.open(io.BytesIO(file.getvalue())))
    assert resembles_card(again)
    assert not resembles_card(again[:600])
    assert not resembles_card(np.full((50, 80, 3), 250, np.uint8))
    assert not resembles_card(np.zeros((1, 1, 3), np.uint8))
