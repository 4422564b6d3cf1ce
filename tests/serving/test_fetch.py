"""`image_url`: what may be fetched, and what is not."""

from __future__ import annotations

import httpx
import pytest

from app.errors import BadRequest, ImageTooLarge
from app.serving.fetch import ImageHosts
from app.upscalers.remote.http import Network

URL = "https://photos.example.com/a.png?size=large"


async def public(_host, _port):
    return ["93.184.216.34"]


async def private(_host, _port):
    return ["10.0.0.1"]


def hosts(answer=None, resolve=public, allow_private=False):
    """Photographs of example.com, and all requests that reached them."""
    asked = []

    def reply(request):
        asked.append(request)
        return answer or httpx.Response(200, content=b"a picture")

    network = Network(transport=httpx.MockTransport(reply), resolve=resolve)
    return ImageHosts(("example.com",), allow_private, network), asked


async def test_fetched_from_the_checked_address():
    """The connection goes to the address that was checked, under the name of the host."""
    allowed, asked = hosts()
    assert await allowed.fetch(URL, 100) == b"a picture"
    [request] = asked
    assert (request.url.host, request.headers["host"]) == ("93.184.216.34", "photos.example.com")
    assert request.extensions["sni_hostname"] == "photos.example.com"


@pytest.mark.parametrize(
    "url",
    [
        "http://photos.example.com/a.png",
        "https://example.com.evil.org/a.png",
        "https://user@example.com/a.png",
        "https://127.0.0.1/a.png",
        "file:///etc/passwd",
        "a.png",
        "",
    ],
)
async def test_others_are_refused(url):
    """Nothing but https URLs on listed hosts is asked for."""
    allowed, asked = hosts()
    with pytest.raises(BadRequest):
        await allowed.fetch(url, 100)
    assert asked == []


async def test_private_addresses_are_refused():
    """Also of a listed host, unless the operator allows them."""
    allowed, asked = hosts(resolve=private)
    with pytest.raises(BadRequest):
        await allowed.fetch(URL, 100)
    assert asked == []
    allowed, asked = hosts(resolve=private, allow_private=True)
    assert await allowed.fetch("http://example.com/a.png", 100) == b"a picture"


@pytest.mark.parametrize("status", [204, 302, 401, 404, 500])
async def test_answers_that_are_no_file(status):
    """Redirects are not followed; the status is told."""
    allowed, asked = hosts(httpx.Response(status, headers={"Location": "https://example.com/b"}))
    with pytest.raises(BadRequest, match=str(status)):
        await allowed.fetch(URL, 100)
    assert len(asked) == 1


async def test_too_large():
    """No more is read than an upload may have."""
    allowed, _ = hosts(httpx.Response(200, content=b"x" * 101))
    with pytest.raises(ImageTooLarge) as error:
        await allowed.fetch(URL, 100)
    assert error.value.members == {"limit": "max_bytes", "maximum": 100}


def test_off_by_default():
    """A service without hosts fetches nothing."""
    with pytest.raises(BadRequest, match="image_hosts"):
        ImageHosts().check()
