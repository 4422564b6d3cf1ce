"""No input, however strange, is a mistake of ours.

Of text this is said in particular of a lone surrogate: JSON can write one and UTF-8 cannot, so
whatever stored it could never be shown again.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.admin import BASE, SAMPLES, truth_files, zipped
from tests.api.gateway import AS_ADMIN, IMAGE, post
from tests.factories import encoded, photo

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
NUMBERS = st.one_of(
    st.floats().map(repr), st.integers(-(2**70), 2**70).map(str), st.floats(0, 1).map(repr)
)
COLOURS = st.sampled_from(["white", "#12", "hsl(0,900%,50%)", "rgb(1e9,0,0)"])
LATIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
KINDS = (
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    "application/json",
    "",
)
few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def check(response):
    """An answer, or a problem of the client's."""
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code


@few
@given(
    alpha=st.none() | NUMBERS | TEXT,
    seed=st.none() | NUMBERS | TEXT,
    upscaler=st.none() | st.just("fake") | TEXT,
    background=st.none() | COLOURS | TEXT,
    image=st.just(IMAGE) | st.binary(max_size=60),
)
def test_fields(client, image, **given):
    """Any values of the form give an answer or a 4xx problem."""
    check(post(client, image, **{name: v for name, v in given.items() if v is not None}))


@few
@given(
    headers=st.dictionaries(
        st.sampled_from(["Accept", "Prefer", "X-Request-ID", "Authorization", "X-API-Key"]),
        LATIN | st.sampled_from(["respond-async", "application/zip", "application/json;q=0"]),
    )
)
def test_headers(client, headers):
    """Any headers do."""
    check(post(client, headers={name: value.strip() for name, value in headers.items()}))


@few
@given(body=st.binary(max_size=300), kind=st.sampled_from(KINDS))
def test_bodies(client, body, kind):
    """Any body under any content type does."""
    check(client.post("/v1/upscale", content=body, headers={"Content-Type": kind}))


ESCAPED = "a\ud800"
RAW = b"a\xed\xa0\x80"  # as an encoder writes it that does not look
UNSEEDED = {"samples": SAMPLES, "degradation": {}}


def part(name: str, value: bytes | str, filename: bytes | None = None) -> bytes:
    """A part of a form with the boundary x."""
    of_file = b"" if filename is None else b'; filename="' + filename + b'"'
    head = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + of_file
    content = value.encode() if isinstance(value, str) else value
    return b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def check_readable(client, path, *parts, **headers):
    """A form is refused, or what it made can be seen and ended."""
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    response = client.post(path, content=b"".join(parts) + b"--x--\r\n", headers=kind | headers)
    if response.status_code != 202:
        assert 400 <= response.status_code < 500, response.text
        return
    job = response.headers["location"]
    for method in ("GET", "DELETE"):
        assert client.request(method, job, headers=AS_ADMIN).status_code == 200
    for shown in (f"{BASE}/{response.json()['id']}", f"{BASE}?state=pending", BASE):
        assert client.get(shown, headers=AS_ADMIN).status_code < 500


@pytest.mark.parametrize("text", [RAW, ESCAPED.encode("ascii", "backslashreplace")])
def test_text_of_an_upscale(client, text):
    """The job of an upload stays readable, or the upload is refused."""
    later = {"Prefer": "respond-async"}
    check_readable(client, "/v1/upscale", part("image", IMAGE, text), **later)
    for field in ("group", "upscaler", "background", "format", "metadata"):
        image = part("image", IMAGE, b"a.png")
        check_readable(client, "/v1/upscale", image, part(field, text), **later)


@pytest.mark.parametrize(
    "fields",
    [
        {"group_by": RAW},
        {"scene_by": ESCAPED.encode("ascii", "backslashreplace")},
        *(
            {"config": json.dumps(UNSEEDED | {name: ESCAPED})}
            for name in ("name", "note", "upscaler", "prediction", "on_bad_pair", ESCAPED)
        ),
        {"config": json.dumps(UNSEEDED | {"attributions": [ESCAPED]})},
        {"config": json.dumps(UNSEEDED | {"name": "x"}).encode().replace(b"x", RAW)},
    ],
)
def test_text_of_a_calibration(client, fields):
    """So does the job of a calibration, whatever its settings and names say."""
    made = [part(*field) for field in {"config": json.dumps(UNSEEDED), **fields}.items()]
    archive = part("archive", zipped(truth_files(1)), b"pairs.zip")
    check_readable(client, BASE, *made, archive, **AS_ADMIN)


@pytest.mark.parametrize("name", [RAW + b".png", b"day/" + RAW + b".png", RAW + b"/0.png"])
def test_names_of_pairs(client, name):
    """And so are names of pairs and of their folders."""
    files = [part("y", encoded(photo(k, 48, 48)), one) for k, one in enumerate((name, b"1.png"))]
    check_readable(client, BASE, part("config", json.dumps(UNSEEDED)), *files, **AS_ADMIN)


def test_names_of_files(client):
    """Nor is the question which of these names are pairs."""
    sent = json.dumps({"names": [f"y/{ESCAPED}.png"]})
    kind = {"Content-Type": "application/json"}
    check(client.post("/v1/admin/pairs/check", content=sent, headers=AS_ADMIN | kind))
