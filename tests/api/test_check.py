"""POST /v1/check: pictures that somebody else enlarged."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from harness.factories import encoded
from harness.gateway import check_problem
from tests.proof.test_check import LARGE_ONE, SMALL, TRUTH
from trustscale_server.http.routes import check as route
from trustscale_server.things.faces import Face

LARGE = np.asarray(LARGE_ONE)


def ask(client, small, large, **params):
    files = {"small": small, "large": large}
    return client.post("/v1/check", files=files, params=params)


def test_what_is_told(client):
    """A faithful one has no contradiction; a patch is found, with a box and a map."""
    answer = ask(client, encoded(SMALL), encoded(LARGE))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["belong_together"], told["contradictions"]) == (True, [])
    patched = LARGE.copy()
    patched[100:164, 60:124] = 255 - patched[100:164, 60:124]
    told = ask(client, encoded(SMALL), encoded(patched, "JPEG")).json()
    (left, top, right, bottom) = told["contradictions"][0]["box"]
    assert left < 92 < right
    assert top < 132 < bottom
    assert told["maps"]["contradictions"].startswith("data:image/png;base64,")


def test_a_report(client):
    """One HTML file that may load nothing."""
    answer = ask(client, encoded(SMALL), encoded(LARGE), report=True)
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "No contradiction was found." in answer.text


def test_a_card(client):
    """A picture to share, with its number; not together with a report."""
    for form in ("png", "jpeg", "webp"):
        answer = ask(client, encoded(SMALL), encoded(LARGE), card=form)
        assert answer.headers["content-type"] == f"image/{form}"
        with Image.open(io.BytesIO(answer.content)) as card:
            assert (card.format.lower(), card.width) == (form, 384)
    both = ask(client, encoded(SMALL), encoded(LARGE), card="png", report=True)
    check_problem(both, "bad-request")
    check_problem(ask(client, encoded(SMALL), encoded(LARGE), card="gif"), "bad-request", 422)


def test_faces_are_listed(client, monkeypatch):
    """By the finder of the service, in pixels of the large file."""
    found = iter([[], [Face(20, 30, 60, 70, 0.9)]])
    context = client.app_state["trustscale"].context
    monkeypatch.setattr(context, "find_faces", lambda *_: next(found))
    told = ask(client, encoded(SMALL), encoded(LARGE)).json()
    (thing,) = [one for one in told["things"] if one["kind"] == "face"]
    assert thing["found_in"] == "large"
    assert thing["box"] == pytest.approx([20, 30, 60, 70], abs=2)


def test_what_cannot_be_read(client):
    """Either file is refused by its own limits, as any upload."""
    good = encoded(SMALL)
    for pair in ((b"%PDF-1.7", good), (good, b"%PDF-1.7")):
        check_problem(ask(client, *pair), "unsupported-media")
    check_problem(ask(client, good, encoded(LARGE)[:-3000]), "bad-image")
    check_problem(ask(client, encoded(SMALL[:8]), good), "bad-image")
    check_problem(client.post("/v1/check", files={"small": good}), "bad-request", 422)
    huge = encoded(np.asarray(Image.new("RGB", (8200, 2100))))
    check_problem(ask(client, huge, good), "image-too-large")


def test_it_works_beside_the_event_loop(client, monkeypatch):
    """Comparing takes seconds, in which the service answers others."""
    on_loop = []

    def compared(*given):
        try:
            asyncio.get_running_loop()
            on_loop.append(True)
        except RuntimeError:
            on_loop.append(False)
        return real(*given)

    real = route._compared
    monkeypatch.setattr(route, "_compared", compared)
    assert ask(client, encoded(SMALL), encoded(TRUTH)).status_code == 200
    assert on_loop == [False]


@pytest.mark.parametrize("name", ["small", "large"])
def test_only_files_are_taken(client, name):
    other = {"small": "large", "large": "small"}[name]
    answer = client.post("/v1/check", files={other: encoded(SMALL)}, data={name: "text"})
    check_problem(answer, "bad-request", 422)
