"""POST /v1/results/{id}/catch: the place that was rewritten most, from the truth."""

import io

import numpy as np
import pytest
from PIL import Image

from harness.factories import encoded, photo
from harness.gateway import check_problem, post


@pytest.fixture
def answer(client):
    return post(client).json()


def caught(client, answer, truth, **query):
    files = {"image": ("truth.png", encoded(truth), "image/png")}
    return client.post(f"/v1/results/{answer['id']}/catch", files=files, params=query)


def test_the_place_and_its_card(client, answer):
    """A box inside the picture, the share of it that was marked, and a card of 1200×630."""
    truth = photo(5, answer["height"], answer["width"])
    found = caught(client, answer, truth).json()
    left, top, right, bottom = found["box"]
    assert 0 <= left < right <= answer["width"]
    assert 0 <= top < bottom <= answer["height"]
    assert 0 < found["badness"] <= 1
    mask = np.asarray(Image.open(io.BytesIO(client.get(answer["links"]["mask"]).content)))
    share = 1 - mask[top:bottom, left:right].mean()
    assert found["marked"] == pytest.approx(share)
    assert found["verdict"] == f"Trustscale had {'' if share >= 0.5 else 'not '}marked it."
    card = caught(client, answer, truth, card=True)
    assert card.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(card.content)) as drawn:
        assert drawn.size == (1200, 630)


def test_what_cannot_be_compared_is_refused(client, answer):
    size = answer["height"], answer["width"]
    refused = caught(client, answer, photo(5, size[0], size[1] - 2))
    assert check_problem(refused, "bad-image")["detail"].startswith("The truth is")
    image = client.get(answer["links"]["image"]).content
    same = caught(client, answer, Image.open(io.BytesIO(image)).convert("RGB"))
    check_problem(same, "not-found")
    check_problem(caught(client, {"id": "res-none"}, photo(5, *size)), "not-found")
