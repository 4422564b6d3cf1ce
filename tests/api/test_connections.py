"""Connections of strangers without a proxy in front: bounded in number, headers and time."""

import logging
import resource
import socket
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from harness.waiting import block_until
from tests.live import serving
from tests.logs import logging_as
from trustscale_server.http import server
from trustscale_server.http.server import BoundedConnection, max_connections, raise_descriptors


async def app(scope, receive, send):
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-is", b"here")]})
    await send({"type": "http.response.body", "body": b"yes"})


@pytest.fixture
def place():
    with serving(app) as address:
        host, port = address.split(":")
        yield host, int(port)


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(BoundedConnection, "HEAD_TIMEOUT_S", 0.3)


def is_closed(connection, within_s=30):
    """Whether the other side closes within this time; what it answers before is read."""
    connection.settimeout(within_s)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def sent_until_refused(connection, first, endless, *, pause_s=0):
    """How many bytes the other side took before it refused."""
    connection.settimeout(30)
    connection.sendall(first)
    sent = 0
    try:
        while sent < 64 * 2**20:
            sent += connection.send(endless)
            time.sleep(pause_s)
    except OSError:
        pass
    return sent


@pytest.mark.parametrize(
    ("first", "endless"),
    [
        (b"GET / HTTP/1.1\r\n", b"X-A: " + b"a" * 4000 + b"\r\n"),
        (b"GET / HTTP/1.1\r\nX-A: ", b"a" * 4096),
        (b"GET /", b"a" * 4096),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-A: " + b"a" * 4000 + b"\r\n",
        ),
    ],
    ids=["many headers", "one header", "a path", "trailers"],
)
def test_endless_headers(place, first, endless):
    """The connection ends when its head, or what follows a body, is too long."""
    with socket.create_connection(place) as connection:
        # What the kernel's buffers take counts as sent.
        assert sent_until_refused(connection, first, endless) < 16 * 2**20
        assert is_closed(connection)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"], ids=["nothing", "half"])
def test_a_head_that_does_not_come(brief, place, sent):
    """Neither a silent connection nor one whose head stops stays open."""
    with socket.create_connection(place) as connection:
        connection.sendall(sent)
        assert is_closed(connection)


def test_a_head_that_drips(brief, place):
    """The time limit counts from the first byte, not from the last one."""
    with socket.create_connection(place) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /")
        assert sent_until_refused(connection, b"", b"a", pause_s=0.05) > 0
        assert time.monotonic() - began < 20


def test_idle_connections_keep_nobody_out(monkeypatch):
    """When all connections are taken, the one that was idle for longest is closed."""
    monkeypatch.setattr(server, "max_connections", lambda: 8)
    with serving(app) as address, ExitStack() as stack:
        host, port = address.split(":")
        idle = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(8)]
        with httpx.Client(base_url=f"http://{address}") as client:
            assert client.get("/").text == "yes"
        assert is_closed(idle[0])
        assert not is_closed(idle[-1], within_s=0.2)


class Holding:
    """Answers `/` at once, and nothing else before the end."""

    def __init__(self):
        self.held = 0

    async def __call__(self, scope, receive, send):
        if scope["path"] != "/":
            self.held += 1
            while (await receive())["type"] != "http.disconnect":
                pass
            self.held -= 1
            return
        await app(scope, receive, send)


@contextmanager
def connected(place, source, sent=b""):
    with socket.create_connection(place, timeout=30, source_address=(source, 0)) as connection:
        connection.sendall(sent)
        yield connection


def test_busy_connections_of_one_client_keep_no_other_out(monkeypatch):
    """When all connections have requests, the newest of the client with most is closed.

    So an address that holds streams of events or slow uploads has all places, until another one
    comes; and what that one has is not taken from it.
    """
    monkeypatch.setattr(server, "max_connections", lambda: 8)
    holding, stream = Holding(), b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n"
    with serving(holding, drain_s=1) as address, ExitStack() as stack:
        host, port = address.split(":")
        place = host, int(port)
        crowd = [stack.enter_context(connected(place, "127.0.0.1", stream)) for _ in range(8)]
        block_until(lambda: holding.held == 8)
        other = stack.enter_context(connected(place, "127.0.0.2", stream))
        assert is_closed(crowd[-1])
        block_until(lambda: holding.held == 8)
        with connected(place, "127.0.0.1", stream) as one_more:
            assert is_closed(one_more)
        with connected(place, "127.0.0.3", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as third:
            assert third.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert not is_closed(other, within_s=0.2)
        assert not is_closed(crowd[0], within_s=0.2)


def test_a_client_is_whom_a_proxy_names(monkeypatch):
    """Behind a proxy all connections have one address, and are counted for its clients."""
    monkeypatch.setattr(server, "max_connections", lambda: 4)
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    holding = Holding()

    def of(client):
        return f"GET /e HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n".encode()

    with serving(ProxyHeadersMiddleware(holding), drain_s=1) as address, ExitStack() as stack:
        host, port = address.split(":")
        place = host, int(port)
        sent = [of("192.0.2.1")] * 3 + [of("192.0.2.2")]
        held = []
        for count, one in enumerate(sent, 1):
            held.append(stack.enter_context(connected(place, "127.0.0.1", one)))
            block_until(lambda count=count: holding.held == count)
        stack.enter_context(connected(place, "127.0.0.2"))
        assert is_closed(held[2])
        assert not is_closed(held[3], within_s=0.2)


def test_descriptors_are_raised_to_what_is_needed(monkeypatch):
    """Up to what the system permits, and never lowered."""
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    for limits in ((1024, 524_288), (1024, 2048), (65_536, 65_536), (1024, resource.RLIM_INFINITY)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        raise_descriptors()
    assert asked == [(4096, 524_288), (2048, 2048), (4096, resource.RLIM_INFINITY)]


def test_connections_leave_descriptors_for_the_rest(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    assert max_connections() == 85
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert max_connections() == 1000


def test_no_flood_of_equal_events(capsys):
    """Whatever each connection could cause is logged a few times a minute; the last says so."""
    with logging_as("json"):
        for number in range(1000):
            logging.getLogger("asyncio").error("socket.accept() failed %s", number)
        logging.getLogger("asyncio").error("something else")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert "further ones are not logged" in lines[9]
    assert "something else" in lines[10]
