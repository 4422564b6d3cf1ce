"""Batches over HTTP: pictures that belong together make masks smaller, never larger."""

from __future__ import annotations

import numpy as np
import pytest

from harness.factories import encoded, photo, with_arrays
from harness.fakes import FakeUpscaler
from harness.gateway import check_problem, pixels, post
from trustscale_server.images.compression import LOSSLESS
from trustscale_server.kinds.features import look_at

OURS = [photo(seed, 40, 48) for seed in range(6)]


def describing(calibration, like):
    """The same calibration, whose pictures of the largest losses look like a picture."""
    numbers = np.random.default_rng(0).normal(0, 1, (len(calibration.arrays.spots), len(like)))
    hardest = np.argsort(-calibration.everything.losses(np.inf))[
        : len(calibration.arrays.spots) // 5
    ]
    numbers[hardest] = np.array(like) + np.random.default_rng(1).normal(
        0, 0.1, (len(hardest), len(like))
    )
    stored = numbers.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return with_arrays(calibration, described=stored.view(np.float32))


@pytest.fixture
def client(start, calibration):
    like = look_at(OURS[0], LOSSLESS).described
    return start(FakeUpscaler(), calibrations=(describing(calibration, like),))


def sent(client, pictures):
    files = [("images", ("a.png", encoded(picture))) for picture in pictures]
    return client.post("/v1/batches", files=files)


def test_a_batch_of_hard_pictures_gets_smaller_masks(client):
    """It is described by the pictures alone; its masks are parts of those without it."""
    made = sent(client, OURS)
    assert made.status_code == 200, made.text
    batch = made.json()
    assert batch["pictures"] == len(OURS)
    assert sent(client, OURS[::-1]).json() == batch  # the same pictures are the same batch
    plain, adapted = (
        post(client, alpha=0.1, **options).json() for options in ({}, {"batch": batch["id"]})
    )
    assert "batch" not in plain
    assert adapted["batch"]["pictures"] == len(OURS)
    assert 1 <= adapted["batch"]["scenes"] <= adapted["guarantee"]["n"]
    assert adapted["trusted_fraction"] < plain["trusted_fraction"]
    assert adapted["guarantee"] == plain["guarantee"]  # the promise is the same
    masks = [client.get(answer["links"]["mask"]).content for answer in (plain, adapted)]
    levels = [client.get(answer["links"]["trust"]).content for answer in (plain, adapted)]
    assert not (pixels(masks[1]) > pixels(masks[0])).any()
    assert (pixels(levels[1]) >= pixels(levels[0])).all()
    recut = client.get(f"{adapted['links']['mask']}?alpha=0.2").content
    assert not (pixels(masks[1]) > pixels(recut)).any()


def test_a_calibration_that_describes_nothing_adapts_nothing(start, calibration):
    """One that was made before pictures were described refuses, and says what to do."""
    old = start(FakeUpscaler(), calibrations=(with_arrays(calibration, described=None),))
    problem = check_problem(post(old, batch=sent(old, OURS).json()["id"]), "bad-request")
    assert "does not describe its pictures" in problem["detail"]


def test_what_is_no_batch_is_a_problem(client):
    """Too few pictures, a file that is none, an unknown id, a promise of another kind."""
    problem = check_problem(sent(client, OURS[:5]), "bad-request")
    assert "6 to 64 pictures; these are 5" in problem["detail"]
    files = [("images", ("a.png", encoded(picture))) for picture in OURS]
    files[3] = ("images", ("b.png", b"no picture"))
    problem = check_problem(client.post("/v1/batches", files=files), "unsupported-media")
    assert problem["detail"].startswith("Picture 4: ")
    image = encoded(photo(5, 40, 48))
    for name in ("batch-none", "res-1", "../x"):
        assert "no batch" in check_problem(post(client, image, batch=name), "not-found")["detail"]
    batch = sent(client, OURS).json()["id"]
    problem = check_problem(post(client, image, batch=batch, guarantee="post_hoc"), "bad-request")
    assert "kind expectation" in problem["detail"]
    check_problem(post(client, image, batch=batch, mask="none"), "bad-request")
