"""`to`: the size that is wanted; a pixel is trusted where all that it was made of is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.api.gateway import check_problem, pixels, post
from tests.factories import encoded, photo


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
    """The size that the model makes is no reduction; a larger one is refused."""
    answer = post(client, to=48, mask=mask).json()
    assert (answer["width"], answer["reduced_from"]) == (48, None)
    assert post(client, to=1, mask=mask).json()["width"] == 1
    assert "48" in check_problem(post(client, to=49, mask=mask), "bad-request")["detail"]
    check_problem(post(client, to=0, mask=mask), "bad-request")
