"""`trustscale catch`: photographs are shrunk, enlarged and compared; the worst have cards."""

import json

import pytest
from PIL import Image

from harness.factories import encoded, photo
from trustscale_server.cli import catch


@pytest.fixture
def photographs(place):
    folder = place / "photos"
    folder.mkdir()
    for seed in (1, 2, 3):
        (folder / f"{seed}.png").write_bytes(encoded(photo(seed, 67, 80)))
    (folder / "4.png").write_text("no picture")
    return folder


def test_a_folder(run, place, calibrated, photographs, monkeypatch):
    """The worst are kept, the worst first, also beside a file that cannot be read."""
    monkeypatch.setattr(catch, "MOST", 2)
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
    """The same from a server, in words; a photograph alone that cannot be read is an error."""
    done = at("catch", photographs / "1.png")
    assert done.code == 0, done.err
    assert done.out.startswith("1.catch.jpeg: rewritten by 0.")
    at("catch", photographs / "4.png").check_error(1, "is not a PNG")
    at("catch", photographs / "1.png", "--upscaler", "none").check_error(2, "no upscaler")
