"""A Firefox of the distribution, driven by its own protocol (Marionette).

Nothing here needs pytest.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.servers import ProcessGroup, ServerMissing, free_port

START_S = 120
SCRIPT_MS = 120_000


def firefox_program() -> str:
    """Firefox on the PATH. Raises ServerMissing."""
    for name in ("firefox-esr", "firefox"):
        if found := shutil.which(name):
            return found
    raise ServerMissing("no firefox in PATH")


class Firefox:
    """A session with one window."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._count = 0
        self._read()  # the greeting
        capabilities = {"alwaysMatch": {"timeouts": {"script": SCRIPT_MS}}}
        self.send("WebDriver:NewSession", {"capabilities": capabilities})

    def close(self) -> None:
        """Let go of the stream; the connection is its owner's."""
        self._stream.close()

    def _read(self) -> Any:
        size = b""
        while (byte := self._stream.read(1)) != b":":
            size += byte
        return json.loads(self._stream.read(int(size)))

    def send(self, command: str, parameters: dict[str, Any]) -> Any:
        """The answer to a command of Marionette."""
        self._count += 1
        text = json.dumps([0, self._count, command, parameters]).encode()
        self._connection.sendall(f"{len(text)}:".encode() + text)
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def go(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self.send("WebDriver:Navigate", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of an async function returns, run in the page."""
        body = (
            f"const done = arguments[arguments.length - 1];"
            f"(async (...given) => {{ {script} }})(...arguments)"
            f".then(done, (error) => done({{ failed: String(error) }}));"
        )
        answer = self.send("WebDriver:ExecuteAsyncScript", {"script": body, "args": arguments})
        return answer["value"]


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """A headless Firefox with a new profile in a folder."""
    port = free_port()
    profile = folder / "profile"
    profile.mkdir(parents=True)
    settings = {
        "marionette.port": port,
        "browser.shell.checkDefaultBrowser": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "app.update.enabled": False,
        "network.captive-portal-service.enabled": False,
        "network.connectivity-service.enabled": False,
    }
    lines = [
        f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in settings.items()
    ]
    (profile / "user.js").write_text("\n".join(lines))
    command = [firefox_program(), "--headless", "--marionette", "--no-remote", "--profile", profile]
    env = {"HOME": str(folder), "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1"}
    with (
        ProcessGroup(command, log=folder / "firefox.log", env=env),
        closing(_connected(port)) as connection,
    ):
        browser = Firefox(connection)
        try:
            yield browser
        finally:
            browser.close()


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=SCRIPT_MS / 1000)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
