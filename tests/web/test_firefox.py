"""The same page in Firefox: another engine for canvas, workers, storage and trusted types.

It is a Firefox of the distribution, driven by its own protocol (Marionette).
"""

import json
import shutil
import socket
from contextlib import suppress

import pytest

from harness.servers import START_TIMEOUT_S, ProcessGroup, ServerMissing, free_port
from tests.missing import not_here
from tests.web.pictures import SHOWN, crop, letters, served_mask

pytestmark = [pytest.mark.slow, pytest.mark.servers]

SIDE = 64
QUIET = {
    "webgl.disabled": True,  # SHOWN reads the canvas of the other painter
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


class Firefox:
    def __init__(self, connection):
        self.connection = connection
        self.stream = connection.makefile("rb")
        self.read()  # the greeting
        timeouts = {"script": int(1000 * START_TIMEOUT_S)}
        self.send("WebDriver:NewSession", capabilities={"alwaysMatch": {"timeouts": timeouts}})

    def read(self):
        size = b""
        while (byte := self.stream.read(1)) != b":":
            assert byte, "Firefox has gone"
            size += byte
        return json.loads(self.stream.read(int(size)))

    def send(self, command, **parameters):
        text = json.dumps([0, 1, command, parameters]).encode()
        self.connection.sendall(f"{len(text)}:".encode() + text)
        _, _, error, result = self.read()
        assert error is None, error
        return result

    def run(self, script, given):
        """What the body of an async function of `given` returns, run in the page."""
        body = (
            f"const [given, done] = arguments; (async () => {{ {SEEN} {script} }})()"
            f".then(done, (error) => done({{ failed: String(error) }}));"
        )
        return self.send("WebDriver:ExecuteAsyncScript", script=body, args=[given])["value"]


@pytest.fixture
def firefox(tmp_path):
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        not_here(ServerMissing("no firefox in PATH"))
    port = free_port()
    (tmp_path / "profile").mkdir()
    settings = {"marionette.port": port, **QUIET}.items()
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in settings]
    (tmp_path / "profile" / "user.js").write_text("\n".join(lines))
    command = [program, "--headless", "--marionette", "--no-remote", "--profile"]
    env = {"HOME": str(tmp_path), "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1"}
    opened: list[socket.socket] = []

    def answers():
        with suppress(ConnectionRefusedError):
            opened.append(socket.create_connection(("127.0.0.1", port), START_TIMEOUT_S))
        return bool(opened)

    log = tmp_path / "firefox.log"
    with ProcessGroup([*command, tmp_path / "profile"], log=log, env=env) as process:
        process.wait_until(answers, "Firefox")
        with opened[0] as connection:
            browser = Firefox(connection)
            with browser.stream:
                yield browser


SEEN = """
const seen = async (selector) => {
  for (;;) {
    const found = document.querySelector(selector);
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
"""

UPSCALE = """
await seen("html[data-ready]");
await seen("#drop");
const data = new DataTransfer();
data.items.add(new File([new Uint8Array(given)], "piece.png", { type: "image/png" }));
const input = document.querySelector("#files");
input.files = data.files;
input.dispatchEvent(new Event("change"));
return (await seen("#canvas[data-shown]")).dataset.shown;
"""

AFTERWARDS = f"""
const canvas = await seen("#canvas[data-shown]");
document.querySelector("#views [data-value=marked]").click();
const compares = !document.querySelector("#compare").disabled;
return {{ shown: canvas.dataset.shown, compares, mask: await ({SHOWN})(given) }};
"""


def test_a_picture_in_firefox(site, firefox):
    """Upscaled, kept through a reload with its input, its mask that of the server."""
    firefox.send("WebDriver:Navigate", url=f"{site}/")
    result = firefox.run(UPSCALE, list(crop(side=SIDE // 4)))
    firefox.send("WebDriver:Navigate", url=f"{site}/r/{result}")
    found = firefox.run(AFTERWARDS, SIDE)
    assert found["shown"] == result
    assert found["compares"]  # the input came back from IndexedDB
    assert found["mask"] == letters(served_mask(site, result))
