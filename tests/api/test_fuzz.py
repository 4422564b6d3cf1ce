"""No input, however strange, is a mistake of ours."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.gateway import IMAGE, post

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
NUMBERS = st.one_of(
    st.floats().map(repr), st.integers(-(2**70), 2**70).map(str), st.floats(0, 1).map(repr)
)


def check(response):
    """An answer, or a problem of the client's."""
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code


def fields(strategy):
    return st.none() | strategy


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    alpha=fields(NUMBERS | TEXT),
    seed=fields(NUMBERS | TEXT),
    upscaler=fields(st.just("fake") | TEXT),
    background=fields(st.sampled_from(["white", "#12", "hsl(0,900%,50%)", "rgb(1e9,0,0)"]) | TEXT),
    image=st.just(IMAGE) | st.binary(max_size=60),
)
def test_fields(client, image, **given):
    """Any values of the form give an answer or a 4xx problem."""
    check(post(client, image, **{name: v for name, v in given.items() if v is not None}))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    headers=st.dictionaries(
        st.sampled_from(["Accept", "Prefer", "X-Request-ID", "Authorization", "X-API-Key"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
        | st.sampled_from(["respond-async", "application/zip", "multipart/mixed;q=0"]),
    )
)
def test_headers(client, headers):
    """Any headers do."""
    check(post(client, headers={name: value.strip() for name, value in headers.items()}))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from(
        [
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "application/x-www-form-urlencoded",
            "application/json",
            "",
        ]
    ),
)
def test_bodies(client, body, kind):
    """Any body under any content type does."""
    check(client.post("/v1/upscale", content=body, headers={"Content-Type": kind}))
