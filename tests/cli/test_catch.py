"""`trustscale catch`: photographs are shrunk, enlarged and compared; the worst have cards."""

import json

import numpy as np
import pytest
from PIL import Image

from harness.factories import encoded, photo
from trustscale_server.cli import catch


@pytest.fixture
def photographs(place):
    folder = place / "photos"
    folder.mkdir()
    for seed in (1, 2, 3):  # as fine as a pixel, which no model can find again
        grain = np.random.default_rng(seed).integers(0, 2, (67, 80, 1), np.uint8)
        (folder / f"{seed}.png").write_bytes(encoded(np.repeat(255 * grain, 3, axis=2)))
    (folder / "4.png").write_text("no picture")
    return folder


def test_a_folder(run, place, calibrated, photographs, monkeypatch):
    """The worst are kept, the worst first, also beside a file that cannot be read."""
    monkeypatch.setattr(catch, "MAX_CARDS", 2)
    done = run("catch", photographs, "--out", "cards", "--json")
    assert done.code == 1
    assert "4.png: " in done.err
    found = [json.loads(line) for line in done.out.splitlines()]
    assert len(found) == 2
    assert found[0]["badness"] >= found[1]["badness"] > 0
    for one in found:
        left, top, right, bottom = one["box"]
        assert 0 <= left < right <= 80
        assert 0 <= top < bottom <= 66  # a multiple of the scale
        with Image.open(place / one["file"]) as card:
            assert card.size == (1200, 630)


def test_on_a_server(at, photographs):
    """The same from a server, in words; alone, what shows nothing is an error."""
    done = at("catch", photographs / "1.png")
    assert done.code == 0, done.err
    assert done.out.startswith("1.catch.jpeg: rewritten by 0.")
    at("catch", photographs / "4.png").check_error(1, "is not a PNG")
    smooth = photographs / "smooth.png"
    smooth.write_bytes(encoded(photo(1, 67, 80)))
    at("catch", smooth).check_error(1, "Nothing was rewritten that can be seen")
    at("catch", photographs / "1.png", "--upscaler", "none").check_error(2, "no upscaler")
