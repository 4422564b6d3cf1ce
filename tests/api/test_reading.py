"""Bodies that come in many small pieces: their work is bounded, and others are served meanwhile."""

import json
import socket
import time

import h11
import httpx
import pytest

from harness.gateway import check_problem
from tests.live import serving
from trustscale_server.http.reading import (
    BURST_S,
    FREE_CHUNKS,
    MIN_CHUNK_BYTES,
    SHARE,
    Debts,
    RequestParser,
)

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Reader:
    """An application that reads whole bodies and counts in how many pieces they come."""

    def __init__(self):
        self.pieces, self.left = 0, 0

    async def __call__(self, scope, receive, send):
        assert scope["type"] == "http"
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            self.pieces += 1
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"read"})


def in_chunks(size, count):
    return (f"{size:x}\r\n".encode() + b"x" * size + b"\r\n") * count


def answer(place, sent):
    """What comes back until the other side closes, which it must do soon."""
    with socket.create_connection(place, timeout=30) as connection:
        connection.sendall(sent)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def place(reader):
    with serving(reader) as address:
        host, port = address.split(":")
        yield host, int(port)


def test_chunks_of_a_byte_are_refused(place, reader):
    """They end with a problem document, which the client can read, and for the application too."""
    head, _, body = answer(place, CHUNKED + in_chunks(1, 100_000)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == ("/problems/bad-request", 400)
    assert f"fewer than {MIN_CHUNK_BYTES} bytes" in problem["detail"]
    assert reader.left == 1


def test_what_follows_an_answer_is_refused_too():
    """Nor does a body that nobody reads occupy the server once its request was answered."""

    async def at_once(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"yes"})

    with serving(at_once) as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(CHUNKED)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            chunks = in_chunks(1, 1_000_000)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                connection.sendall(chunks)


@pytest.mark.parametrize("size", [MIN_CHUNK_BYTES, 256, 20_000])
def test_other_chunks_are_read(place, size):
    """A file that is sent line by line is read, however many lines it has."""
    sent = CHUNKED + in_chunks(size, 3 * FREE_CHUNKS) + b"0\r\n\r\n"
    with socket.create_connection(place, timeout=60) as connection:
        connection.sendall(sent)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_few_small_chunks_are_read(place):
    with socket.create_connection(place, timeout=60) as connection:
        connection.sendall(CHUNKED + in_chunks(1, FREE_CHUNKS) + b"0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_each_request_of_a_connection_has_its_own_chunks():
    """Small chunks of one request are not counted for the next."""
    parser = RequestParser(h11.SERVER)
    for _ in range(3):
        parser.receive_data(CHUNKED + in_chunks(1, FREE_CHUNKS) + b"0\r\n\r\n")
        while (event := parser.next_event()) is not h11.PAUSED:
            if isinstance(event, h11.EndOfMessage):
                break
        parser.send(h11.Response(status_code=200, headers=[(b"content-length", b"0")]))
        parser.send(h11.EndOfMessage())
        parser.start_next_cycle()


def test_bytes_that_drip_are_joined(place, reader, monkeypatch):
    """One that sends a byte a packet waits, so that few reads take in what has come meanwhile."""
    monkeypatch.setattr("trustscale_server.http.server.READ_S", BURST_S)
    count = 2000
    with socket.create_connection(place, timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(HEAD + f"Content-Length: {count}\r\n\r\n".encode())
        for _ in range(count):
            connection.sendall(b"x")
            time.sleep(0.0005)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert reader.pieces < count / 10


class TestDebts:
    """An address has some work for nothing, then a share of the time, and is forgotten at last."""

    @pytest.fixture
    def now(self):
        return [0.0]

    @pytest.fixture
    def debts(self, now):
        return Debts(lambda: now[0])

    def test_what_is_small_waits_for_nothing(self, debts):
        assert debts.owe("a", BURST_S) == 0

    def test_the_share(self, debts, now):
        """Who waits as long as it is told has its share of the time, however much it sends."""
        spent = 0.0
        for _ in range(1000):
            now[0] += debts.owe("a", 0.01)
            spent += 0.01
        assert spent - BURST_S <= SHARE * now[0] <= spent

    def test_others_owe_nothing(self, debts):
        debts.owe("a", 100)
        assert debts.owe("b", BURST_S) == 0

    def test_it_keeps_only_debtors(self, debts, now):
        for number in range(5000):
            debts.owe(str(number), BURST_S)
            now[0] += 1
        assert len(debts._free_at) < 2000


def test_forms_of_separators_are_refused_before_they_are_parsed(start):
    """The parser of such forms needs microseconds for each `&`: half a minute for 10 MB."""
    client = start()
    kind = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    problem = check_problem(
        client.post("/v1/upscale", content=b"&" * 33, headers=kind), "bad-request"
    )
    assert "Too many fields" in problem["detail"]
    other = client.post("/v1/upscale", content=b"alpha=0.1&group=x&&", headers=kind)
    assert "image: this is missing" in check_problem(other, "bad-request")["detail"]


def test_an_upload_goes_through_as_ever(place):
    """A body of megabytes in ordinary pieces is read to its end, and the connection is kept."""
    with httpx.Client(base_url=f"http://{place[0]}:{place[1]}", timeout=60) as client:
        for _ in range(3):
            assert client.post("/", content=bytes(20_000_000)).text == "read"
