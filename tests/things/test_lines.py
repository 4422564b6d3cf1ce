"""Lines of text are found in a small copy first, and closer where that shows any."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.missing import not_here
from trustscale_server.conformal.fidelity import ReaderSettings
from trustscale_server.serving.finders import LineFinder
from trustscale_server.things import reading
from trustscale_server.things.lines import find_lines

BRIGHT, DARK = 200, 20


@pytest.fixture(autouse=True)
def reader():
    if (missing := reading.missing(ReaderSettings())) is not None:
        not_here(missing)


class Dark:
    """Takes dark pixels for a line."""

    def __init__(self):
        self.shapes = []

    def __call__(self, tensor):
        self.shapes.append(tensor.shape[2:])
        return (tensor[:, :1] < -0.5).astype(np.float32)


def picture(*bars, size=(1600, 1600)):
    """Bars of (top, left, bottom, right)."""
    pixels = np.full((*size, 3), BRIGHT, np.uint8)
    for top, left, bottom, right in bars:
        pixels[top:bottom, left:right] = DARK
    return pixels


def holds(line, bar):
    """Whether a line is around a bar, and not much larger."""
    (left, top), (right, bottom) = line.min(axis=0), line.max(axis=0)
    return (
        bar[0] - 60 < top <= bar[0] + 2
        and bar[1] - 60 < left <= bar[1] + 2
        and bar[2] - 2 <= bottom < bar[2] + 60
        and bar[3] - 2 <= right < bar[3] + 60
    )


def test_pictures_without_lines_are_looked_at_once_in_a_copy():
    """Of two large pictures one small copy is looked at, and no more."""
    network = Dark()
    assert find_lines([picture(), picture()], network) == [[], []]
    assert network.shapes == [(736, 736)]


def test_what_may_be_a_line_is_looked_at_closer():
    """A bar is found where it is, by looking at a part of each picture."""
    network, bar = Dark(), (600, 400, 616, 900)
    ((made,), (plain,)) = find_lines([picture(bar), picture(bar)], network)
    assert holds(made, bar)
    assert np.array_equal(made, plain)
    assert len(network.shapes) == 3
    assert all(height * width < 736**2 for height, width in network.shapes[1:])


def test_letters_of_one_picture_count():
    """What only one of the pictures shows is found in it alone."""
    bar = (600, 400, 616, 900)
    invented, nothing = find_lines([picture(bar) // 2, picture() // 2], Dark())
    assert holds(invented[0], bar)
    assert nothing == []


def test_a_page_is_looked_at_as_a_whole():
    """Many parts would take longer than the picture, which the reader reduces to 2000 pixels."""
    network = Dark()
    bars = [(top, 100, top + 30, 2900) for top in range(100, 2900, 150)]
    made, plain = find_lines([picture(*bars, size=(3000, 3000))] * 2, network)
    assert len(made) == len(plain) == len(bars)
    assert network.shapes == [(1024, 1024), (2016, 2016), (2016, 2016)]


class NearSighted(Dark):
    """Takes grey pixels for a line, too, where it looks closer."""

    def __call__(self, tensor):
        self.shapes.append(tensor.shape[2:])
        return (tensor[:, :1] < (-0.5 if len(self.shapes) == 1 else -0.2)).astype(np.float32)


def test_a_large_line_is_seen_in_the_copy_too():
    """What looks like a large letter only from close by is none; a small line may be one."""
    bars = [(top, 100, top + 30, 2000) for top in range(100, 2900, 150)]
    seen = picture(*bars, (1000, 2300, 1300, 2900), size=(3000, 3000))
    faint = seen.copy()
    faint[1000:1300, 2300:2900] = faint[100:130, 100:2000] = 90
    network = NearSighted()
    assert [len(lines) for lines in find_lines([faint, faint], network)] == [len(bars)] * 2
    assert network.shapes[1:] == [(2016, 2016), (2016, 2016)]
    assert [len(lines) for lines in find_lines([seen], Dark())] == [len(bars) + 1]


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (37, 5), (33, 31), (8, 8000)])
def test_tiny_and_narrow_pictures_are_looked_at(size):
    """Any size can be looked at, in a bounded one, and a flat picture has no line."""
    network = Dark()
    assert find_lines([picture(size=size)] * 2, network) == [[], []]
    assert all(height * width <= 2016**2 for height, width in network.shapes)


@pytest.mark.slow
def test_real_lines():
    """The reader's network finds words in a large picture, in the precision of this machine."""
    drawn = Image.new("RGB", (960, 960), (30, 60, 120))
    pen = ImageDraw.Draw(drawn)
    for row in range(3):
        pen.text((200, 150 + 300 * row), "Exit 42", "white", ImageFont.load_default(60))
    (found,) = LineFinder()([np.asarray(drawn)])
    assert len(found) == 3
    for row, line in enumerate(sorted(found, key=lambda line: line[0, 1])):
        left, top = line.min(axis=0)
        assert abs(left - 200) < 40
        assert abs(top - 150 - 300 * row) < 60
