"""An object store or a Redis that fails says why, in words, and nothing of its credentials."""

import http.server
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest

from trustscale_server.stores import blobs
from trustscale_server.stores.blobs import open_blobs
from trustscale_server.stores.documents import StoreUnavailable
from trustscale_server.stores.opened import open_stores


class _Answer(http.server.BaseHTTPRequestHandler):
    """Refuses everything with a status and a code of S3."""

    status, code = 500, ""

    def do_PUT(self):
        body = f"<Error><Code>{self.code}</Code><Message>key=hidden</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def answering(status=500, code="", *, context=None):
    kind = type("Kind", (_Answer,), {"status": status, "code": code})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def foreign_tls(tmp_path):
    """TLS with a certificate that nobody signed."""
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subject = ["-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", certificate]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture
def reason(tmp_path, monkeypatch):
    """What a blob store behind an address says of a write."""
    for name, value in (("ACCESS_KEY_ID", "hidden"), ("SECRET_ACCESS_KEY", "hidden")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "localhost,127.0.0.1,nowhere.invalid")
    short = timedelta(seconds=1)
    options = {"allow_http": True, "connect_timeout": short, "timeout": short}
    retries = {"max_retries": 0, "retry_timeout": short}
    monkeypatch.setattr(blobs, "_TIMES", {"retry_config": retries, "client_options": options})

    async def ask(address):
        monkeypatch.setenv("AWS_ENDPOINT", address)
        with pytest.raises(StoreUnavailable) as raised:
            await open_blobs("s3://bucket/x", tmp_path).put("a", "b", b"c")
        assert "hidden" not in raised.value.detail
        return raised.value.detail.partition("now: ")[2]

    return ask


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "the credentials may not do this."),
        (403, "SignatureDoesNotMatch", "it refuses the credentials."),
        (404, "NoSuchBucket", "there is no such bucket or container."),
        (503, "SlowDown", "it is overloaded."),
        (507, "Full", "it answered 507."),
    ],
)
async def test_answers(reason, status, code, words):
    """An object store's refusals have words of their own."""
    with answering(status, code) as port:
        assert await reason(f"http://127.0.0.1:{port}") == words


async def test_connections(reason, foreign_tls):
    """So have those that are no answer: no connection, no name, no trusted TLS, silence."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert await reason(f"http://127.0.0.1:{silent.getsockname()[1]}") == "no answer in time."
        away = silent.getsockname()[1]
    assert await reason(f"http://127.0.0.1:{away}") == "no connection."
    assert await reason("http://nowhere.invalid") == "its host name is not known."
    with answering(context=foreign_tls) as port:
        told = await reason(f"https://localhost:{port}")
        assert told == "its TLS certificate is not accepted."
    with answering() as port:
        assert await reason(f"https://localhost:{port}") == "it does not speak TLS."


async def test_redis_with_a_foreign_certificate(tmp_path, foreign_tls):
    """A Redis whose certificate is not trusted is not merely away."""
    with answering(context=foreign_tls) as port:
        stores = open_stores(
            f"rediss://127.0.0.1:{port}", tmp_path, result_ttl_s=60, max_result_bytes=100
        )
        with pytest.raises(StoreUnavailable, match="certificate is not accepted"):
            await stores.jobs.unfinished()
        await stores.close()
