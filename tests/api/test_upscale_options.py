"""What may be asked for: an address, a size, no mask."""

import functools
import http.server
import threading

import numpy as np
import pytest

from tests.api.gateway import IMAGE, check_problem, ended, pixels, post, text_chunks
from tests.factories import encoded, photo
from tests.fakes import FakeUpscaler


def test_reduced(client):
    """Picture and masks have the longest side that was asked for, and nothing gains trust."""
    image = encoded(photo(1000, 24, 20))
    whole = post(client, image, seed=1, alpha=0.15).json()
    small = post(client, image, seed=1, alpha=0.15, to=24).json()
    assert (small["width"], small["height"], small["reduced_from"]) == (20, 24, [40, 48])
    assert (whole["reduced_from"], small["guarantee"]) == (None, whole["guarantee"])
    assert any("before that" in warning for warning in small["warnings"])
    masks = [pixels(client.get(answer["links"]["mask"]).content) for answer in (whole, small)]
    blocks = masks[0].reshape(24, 2, 20, 2)
    np.testing.assert_array_equal(masks[1], blocks.all(axis=(1, 3)))
    assert masks[1].mean() == small["trusted_fraction"]
    codes = [pixels(client.get(answer["links"]["trust"]).content) for answer in (whole, small)]
    np.testing.assert_array_equal(codes[1], codes[0].reshape(24, 2, 20, 2).max(axis=(1, 3)))
    other = pixels(client.get(f"{small['links']['mask']}?alpha=0.2").content)
    assert other.shape == (24, 20)
    truth = {"image": ("y.png", encoded(photo(0, 24, 20)), "image/png")}
    check_problem(client.post(f"{small['links']['self']}/truth", files=truth), "conflict")


@pytest.mark.parametrize("mask", ["trust", "none"])
def test_the_bounds(client, mask):
    answer = post(client, to=48, mask=mask).json()
    assert (answer["width"], answer["reduced_from"]) == (48, None)
    assert post(client, to=1, mask=mask).json()["width"] == 1
    assert "48" in check_problem(post(client, to=49, mask=mask), "bad-request")["detail"]
    check_problem(post(client, to=0, mask=mask), "bad-request")


@pytest.fixture
def bare(start):
    """A gateway without a calibration."""
    return start(calibrations=())


def test_the_way_out_is_named(start):
    """Without a calibration nothing is generated; the error names what makes one, and mask=none."""
    upscaler = FakeUpscaler()
    detail = check_problem(post(start(upscaler, calibrations=())), "no-calibration")["detail"]
    assert "trustscale calibrate FOLDER --upscaler fake --activate" in detail
    assert "mask=none" in detail
    assert upscaler.calls == []


def test_the_picture_alone(bare):
    """One sample, no mask, no guarantee; the answer and the file say so."""
    answer = post(bare, mask="none", seed=3).json()
    nothing = {"calibration": None, "guarantee": None, "alpha": None, "trusted_fraction": None}
    assert answer.items() >= {"mask": "none", "samples": 1, "width": 48, **nothing}.items()
    assert "nothing says where" in answer["warnings"][0]
    assert set(answer["links"]) == {"self", "image"}
    assert bare.get(answer["links"]["self"]).json() == answer
    image = bare.get(answer["links"]["image"]).content
    assert text_chunks(image)["trustscale:mask"] == "none"
    base = answer["links"]["self"]
    for path in ("mask.png", "trust.png", "believed.png", "mask.png?alpha=0.2"):
        check_problem(bare.get(f"{base}/{path}"), "not-found")
    truth = {"image": ("y.png", image, "image/png")}
    check_problem(bare.post(f"{base}/truth", files=truth), "not-found")
    assert bare.get(f"{base}/image.webp").status_code == 200


def test_the_same_picture_as_with_a_mask(client, upscaler):
    """Whoever asks again with a mask and the same seed gets a mask of this very picture."""
    alone, masked = (post(client, seed=7, mask=mask).json() for mask in ("none", "trust"))
    one, other = (client.get(a["links"]["image"]).content for a in (alone, masked))
    assert (pixels(one) == pixels(other)).all()
    assert [len(calls) for calls in (upscaler.calls[:1], upscaler.calls[1:])] == [1, 4]


@pytest.mark.parametrize("field", [{"alpha": 0.1}, {"group": "a"}])
def test_what_chooses_a_mask_is_refused(bare, field):
    assert "mask=none" in check_problem(post(bare, mask="none", **field), "bad-request")["detail"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def url(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(IMAGE)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a.png"
        server.shutdown()


def ask(client, headers=None, **fields):
    return client.post("/v1/upscale", data=fields, headers=headers or {})


def test_the_same_answer(start, url):
    client = start(image_hosts="127.0.0.1", image_private=True)
    sent = post(client, seed=3).json()
    fetched = ask(client, image_url=url, seed="3").json()
    accepted = ask(client, {"Prefer": "respond-async"}, image_url=url, seed="3")
    job = ended(client, accepted.headers["location"])
    later = client.get(job["result"]).json()
    images = [client.get(answer["links"]["image"]).content for answer in (sent, fetched, later)]
    assert images[0] == images[1] == images[2]


def test_refusals(start, client, url):
    check_problem(ask(client, image_url=url), "bad-request")
    allowed = start(image_hosts="127.0.0.1", image_private=True)
    check_problem(ask(allowed, image_url=url.replace("127.0.0.1", "localhost")), "bad-request")
    assert "404" in check_problem(ask(allowed, image_url=f"{url}x"), "bad-request")["detail"]
    check_problem(post(allowed, image_url=url), "bad-request")
