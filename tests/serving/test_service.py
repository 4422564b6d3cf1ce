"""Requests that are cancelled, the job of one upscaling, and what `image_url` may fetch."""

import asyncio
import errno
import gc
import sys
import threading
import weakref

import httpx
import pytest

from harness.factories import calibration_of
from harness.fakes import FakeUpscaler
from harness.gateway import IMAGE, gateway
from harness.pictures import resolving
from trustscale_server.images.encoding.png import write_png
from trustscale_server.platform.errors import BadRequest, DegenerateSamples, ImageTooLarge
from trustscale_server.proof.marked import write_marked
from trustscale_server.serving import files, trust
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.upscalers.outbound.fetch import ImageHosts
from trustscale_server.upscalers.outbound.guard import NetworkAccess, certificate_authorities


def room(is_there):
    if not is_there:
        raise OSError(errno.ENOSPC, "No space left on device")


ENDS = ("itself", "no room", "no room for levels", "σ", "a hang-up")


@pytest.mark.parametrize("ends_by", ENDS)
async def test_a_slot_is_held_until_the_work_ends(tmp_path, monkeypatch, ends_by, request):
    """However a request ends, it holds its slot and bytes until what works on it has ended.

    Then no file is left, also without a collection of garbage.
    """
    gc.disable()
    request.addfinalizer(gc.enable)
    upscaler = FakeUpscaler()
    app = gateway(tmp_path, upscaler, calibrations=[await calibration_of(upscaler)])
    working, may_end, written = threading.Event(), threading.Event(), []
    put = trust.Trust.put

    def work():
        working.set()
        assert may_end.wait(60)

    def write(out, *args, **kwargs):
        written.append(weakref.ref(out))
        work()
        room(ends_by != "no room")
        write_marked(out, *args, **kwargs)

    def score(self, *strip):
        put(self, *strip)
        if ends_by == "σ":
            work()
            raise DegenerateSamples("all alike")

    def levels(out, *args):
        written.append(weakref.ref(out))
        room(ends_by != "no room for levels")
        write_png(out, *args)

    monkeypatch.setattr(files, "write_marked", write)
    monkeypatch.setattr(trust, "write_png", levels)
    monkeypatch.setattr(trust.Trust, "put", score)
    async with app.router.lifespan_context(app) as state:
        service_, asked = state["trustscale"].services.service, UpscaleRequest(seed=3)
        slots = service_.context.slots
        run = asyncio.create_task(service_.run(await service_.prepare(IMAGE, asked)))
        assert await asyncio.to_thread(working.wait, 60)
        for _ in range(3):
            if ends_by == "a hang-up":
                run.cancel()
            await asyncio.sleep(0.01)
        assert (slots.in_flight, run.done()) == (1, False)
        assert slots.bytes_in_flight > 0
        may_end.set()
        if ends_by == "itself":
            assert {"image.png", "mask.png", "trust.png"} <= {*(await run).files}
        else:
            kinds = {"σ": DegenerateSamples, "a hang-up": asyncio.CancelledError}
            with pytest.raises(kinds.get(ends_by, StoreUnavailable)):
                await run
        assert slots.in_flight == slots.bytes_in_flight == 0
    del run
    left = [file for ref in written if (file := ref()) is not None]
    assert all(file.closed for file in left)
    # From 3.13 on contextlib keeps an error that was replaced, with its frames, in a cycle.
    assert not left or sys.version_info >= (3, 13)


URL = "https://photos.example.com/a.png?size=large"


def hosts(answer=None, address="93.184.216.34"):
    """Photographs of example.com, and all requests that reached them."""
    asked = []

    def reply(request):
        asked.append(request)
        return answer or httpx.Response(200, content=b"a picture")

    network = NetworkAccess(transport=httpx.MockTransport(reply), resolve=resolving(address))
    return ImageHosts(("example.com",), network=network), asked


async def test_fetched_from_the_checked_address():
    """The connection goes to the address that was checked, under the name of the host."""
    allowed, asked = hosts()
    assert (await allowed.fetch(URL, 100)).read() == b"a picture"
    [request] = asked
    assert (request.url.host, request.headers["host"]) == ("93.184.216.34", "photos.example.com")
    assert request.extensions["sni_hostname"] == "photos.example.com"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://photos.example.com/a.png", {}),
        ("https://example.com.evil.org/a.png", {}),
        ("a.png", {}),
        ("", {}),
        ("https://me:secret@photos.example.com/a.png", {}),
        (URL, {"address": "10.0.0.1"}),
    ],
)
async def test_others_are_refused(url, options):
    """Nothing is asked, and the message blames the address, not an upscaler."""
    allowed, asked = hosts(**options)
    with pytest.raises(BadRequest, match=r"^The image_url "):
        await allowed.fetch(url, 100)
    assert asked == []


async def test_certificate_authorities_are_read_once(monkeypatch):
    """It takes 20 ms, in which nothing else runs."""
    read, create = [], httpx.create_ssl_context
    monkeypatch.setattr(httpx, "create_ssl_context", lambda: read.append(1) or create())
    certificate_authorities.cache_clear()
    allowed, _ = hosts()
    for _ in range(3):
        await allowed.fetch(URL, 100)
    assert read == [1]


async def test_answers_that_are_no_file():
    for status in (204, 302, 401, 404, 500):
        to = {"Location": "https://example.com/b"}
        allowed, asked = hosts(httpx.Response(status, headers=to))
        with pytest.raises(BadRequest, match=str(status)):
            await allowed.fetch(URL, 100)
        assert len(asked) == 1
    allowed, _ = hosts(httpx.Response(200, content=b"x" * 101))
    with pytest.raises(ImageTooLarge) as error:
        await allowed.fetch(URL, 100)
    assert error.value.members == {"limit": "max_bytes", "maximum": 100}
