"""Limits per client: by requests and by input pixels, in memory and shared over Redis."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.api.limits import open_limits
from app.errors import RateLimited
from app.settings import load_settings
from app.stores.base import StoreUnavailable
from tests.api.gateway import ADMIN_KEY, check_problem, post
from tests.factories import encoded, photo

PIXELS = 24 * 24
ASYNC = {"Prefer": "respond-async"}


def check_limited(response, unit: str) -> None:
    """429 `overloaded` that says which limit, and when to come back."""
    problem = check_problem(response, "overloaded", 429)
    assert problem["limit"] == f"client_{unit}_per_minute"
    assert 1 <= int(response.headers["retry-after"]) <= 60


class TestRequests:
    def test_open(self, start):
        """Without keys an address has its share, of which what is wrong takes nothing.

        Asynchronous requests take from it too; reading results takes nothing.
        """
        client = start(client_requests_per_minute=2)
        wrong = [{"upscaler": "none"}, {"alpha": "x"}, {"group": "none"}]
        assert [post(client, **fields).status_code for fields in wrong] == [404, 422, 422]
        links = post(client).json()["links"]
        assert post(client, headers=ASYNC).status_code == 202
        for headers in ({}, ASYNC):
            check_limited(post(client, headers=headers), "requests")
        assert {client.get(links["mask"]).status_code for _ in range(3)} == {200}

    def test_per_key(self, start):
        """Every key has its own; without a valid one nothing is counted."""
        client = start(client_requests_per_minute=1, client_keys=["a", "b"])
        for _ in range(2):
            assert post(client, headers={"X-API-Key": "wrong"}).status_code == 401
        for key in ("a", "b", ADMIN_KEY):
            headers = {"X-API-Key": key}
            assert post(client, headers=headers).status_code == 200
            check_limited(post(client, headers=headers), "requests")

    def test_a_full_queue_takes_nothing(self, start):
        """Nor does a job for which the queue has no room, which is told to come back."""
        client = start(
            client_requests_per_minute=2,
            client_pixels_per_minute=2 * PIXELS,
            max_input_pixels=PIXELS,
            max_queued_jobs=1,
            run_jobs=False,
        )
        answers = [post(client, headers=ASYNC) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 503, 503, 503]
        assert answers[-1].headers["retry-after"] == "60"
        assert post(client).status_code == 200


class TestPixels:
    def test_by_size(self, start):
        """Large images use it up sooner; what is refused takes nothing from smaller ones."""
        client = start(client_pixels_per_minute=3 * PIXELS, max_input_pixels=3 * PIXELS)
        assert post(client).status_code == 200
        large = encoded(photo(1, 48, 36))  # exactly the whole minute
        check_limited(post(client, large), "pixels")
        assert post(client, large[:100]).status_code == 422
        assert [post(client).status_code for _ in range(3)] == [200, 200, 429]

    def test_smaller_than_one_image(self, monkeypatch):
        """Such a limit would refuse an allowed image for ever: the start is refused.

        Where no size was set, the limit is that of one image too.
        """
        monkeypatch.setenv("TRUSTSCALE_CLIENT_PIXELS_PER_MINUTE", "1000")
        assert load_settings().limits.max_pixels == 1000
        monkeypatch.setenv("TRUSTSCALE_MAX_INPUT_PIXELS", "1001")
        with pytest.raises(Exception, match="smaller than max_input_pixels"):
            load_settings()


class TestCounters:
    @pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.servers)])
    def store(self, request) -> str:
        if request.param == "redis":
            return str(request.getfixturevalue("redis_url"))
        return "sqlite:///"

    async def test_minute(self, store, monkeypatch):
        """The share comes back at the end of the minute that the error names."""
        now = [time.time()]
        if store.startswith("sqlite"):
            monkeypatch.setattr(time, "time", lambda: now[0])
        async with open_limits(store, requests=2, pixels=None) as limits:
            await limits.take("a", "requests")
            await limits.take("a", "requests")
            with pytest.raises(RateLimited) as caught:
                await limits.take("a", "requests")
            if store.startswith("sqlite"):
                assert caught.value.retry_after == pytest.approx(60)
            assert 1 < caught.value.retry_after <= 60
            await limits.take("b", "requests")
            await limits.take("a", "pixels", 10**12)
            if store.startswith("sqlite"):
                now[0] += caught.value.retry_after + 0.1
                await limits.take("a", "requests")

    async def test_at_once(self, store):
        """However many come at once, no more than the share is served."""
        async with open_limits(store, requests=5, pixels=None) as limits:
            outcomes = await asyncio.gather(
                *(limits.take("a", "requests") for _ in range(20)), return_exceptions=True
            )
        assert outcomes.count(None) <= 5
        assert {type(outcome) for outcome in outcomes if outcome is not None} == {RateLimited}

    @pytest.mark.servers
    async def test_shared(self, redis_url):
        """All gateways on one Redis count together."""
        async with (
            open_limits(redis_url, requests=1, pixels=None) as first,
            open_limits(redis_url, requests=1, pixels=None) as second,
        ):
            await first.take("a", "requests")
            with pytest.raises(RateLimited):
                await second.take("a", "requests")

    async def test_redis_away(self):
        """Counters that cannot be reached are told without the password."""
        url = "redis://:secret@127.0.0.1:1/0"
        async with open_limits(url, requests=1, pixels=None) as limits:
            with pytest.raises(StoreUnavailable) as caught:
                await limits.take("a", "requests")
        assert "secret" not in caught.value.detail
