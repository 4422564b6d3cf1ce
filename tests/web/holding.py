"""A proxy that holds back the answer to one request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

PASSED_ON = ("content-type", "location", "retry-after")


class Held:
    """What has arrived behind the proxy, and when its answer may go on."""

    def __init__(self) -> None:
        self.arrived, self.release = threading.Event(), threading.Event()
        self.job = ""


@contextmanager
def holding(url: str, path: str) -> Iterator[tuple[str, Held]]:
    """The address of a proxy for `url` that holds the answers to POST `path`."""
    held = Held()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            response = httpx.request(
                self.command, url + self.path, content=self.rfile.read(length), headers=headers
            )
            if (self.command, self.path) == ("POST", path):
                held.job = response.json()["id"]
                held.arrived.set()
                held.release.wait()
            self.send_response(response.status_code)
            for name in PASSED_ON:
                if name in response.headers:
                    self.send_header(name, response.headers[name])
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - named by the standard library

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", held
    finally:
        held.release.set()
        server.shutdown()
        server.server_close()
