"""Text that is none, a lone surrogate, in every field that takes text.

JSON can write one and UTF-8 cannot, so whatever stored it could never be shown again.
"""

from __future__ import annotations

import json

import pytest

from tests.api.admin import BASE, SAMPLES, truth_files, zipped
from tests.api.gateway import AS_ADMIN, IMAGE
from tests.factories import encoded, photo

ESCAPED = "a\ud800"
RAW = b"a\xed\xa0\x80"  # as an encoder writes it that does not look
BOUNDARY = "b0undary"
UNSEEDED = {"samples": SAMPLES, "degradation": {}}


def part(name: bytes, value: bytes, filename: bytes | None = None) -> bytes:
    of_file = b"" if filename is None else b'; filename="' + filename + b'"'
    head = b'Content-Disposition: form-data; name="' + name + b'"' + of_file
    return b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n\r\n" + value + b"\r\n"


def send(client, path, *parts, **headers):
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return client.post(path, content=body, headers=kind | headers)


def check_readable(client, response):
    """It was refused, or what it made can be seen and ended."""
    if response.status_code != 202:
        assert 400 <= response.status_code < 500, response.text
        return
    job = response.headers["location"]
    for method in ("GET", "DELETE"):
        assert client.request(method, job, headers=AS_ADMIN).status_code == 200
    for path in (f"{BASE}/{response.json()['id']}", f"{BASE}?state=pending", BASE):
        assert client.get(path, headers=AS_ADMIN).status_code < 500


@pytest.mark.parametrize("text", [RAW, ESCAPED.encode("ascii", "backslashreplace")])
@pytest.mark.parametrize(
    "field", ["filename", "group", "upscaler", "background", "format", "metadata"]
)
def test_an_upscale(client, field, text):
    """The job of an upload stays readable, or the upload is refused."""
    named = part(b"image", IMAGE, text if field == "filename" else b"a.png")
    more = () if field == "filename" else (part(field.encode(), text),)
    check_readable(client, send(client, "/v1/upscale", named, *more, Prefer="respond-async"))


@pytest.mark.parametrize(
    "fields",
    [
        {"groups": json.dumps({"000": ESCAPED})},
        {"groups": json.dumps({ESCAPED: "day"})},
        {"scenes": json.dumps({"000": ESCAPED})},
        {"scenes": json.dumps({ESCAPED: "beach"})},
        {"groups": b"name,group\n000," + RAW},
        *({"config": json.dumps(UNSEEDED | {name: ESCAPED})}
          for name in ("name", "note", "upscaler", "prediction", "on_bad_pair", ESCAPED)),
        {"config": json.dumps(UNSEEDED | {"attributions": [ESCAPED]})},
        {"config": json.dumps(UNSEEDED | {"name": "x"}).encode().replace(b"x", RAW)},
    ],
)  # fmt: skip
def test_a_calibration(client, fields):
    """So does the job of a calibration, whatever its settings and names say."""
    parts = {"config": json.dumps(UNSEEDED), **fields}
    made = [
        part(name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in parts.items()
    ]
    archive = part(b"archive", zipped(truth_files(2)), b"pairs.zip")
    check_readable(client, send(client, BASE, *made, archive, **AS_ADMIN))


@pytest.mark.parametrize("name", [RAW + b".png", b"day/" + RAW + b".png", RAW + b"/0.png"])
def test_files_of_pairs(client, name):
    """And so are names of pairs and of their folders."""
    parts = [part(b"y", encoded(photo(k, 48, 48)), one) for k, one in enumerate((name, b"1.png"))]
    settings = part(b"config", json.dumps(UNSEEDED).encode())
    check_readable(client, send(client, BASE, settings, *parts, **AS_ADMIN))
