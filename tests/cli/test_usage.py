"""Configuration and new upscalers: what is said before anything happens."""

import json
import re
import socket
import tomllib
from importlib import resources

import pytest

from harness.waiting import block_until
from tests.live import serving
from tests.upscalers.test_connect import answering
from trustscale_server.cli.bars import progress_bars
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS


def test_a_port_in_use(run):
    """One line, before anything is opened."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run("serve", "--port", port).check_error(2, f"127.0.0.1:{port}")


def test_config_check_tells_no_secrets(run, place, monkeypatch):
    monkeypatch.setenv("PASSWORD", "word-one")
    monkeypatch.setenv("KEY", "word-two")
    monkeypatch.setenv("TRUSTSCALE_ADMIN_KEYS", "word-three")
    monkeypatch.setenv("FOLDER", "word-four")
    monkeypatch.setenv("TRUSTSCALE_QUEUE", "redis://user:word-five@host:1/2")
    worker = {"name": "a", "kind": "worker", "urls": ["https://host"]}
    headers = {"headers": {"X-Tenant": "word-six"}}
    monkeypatch.setenv("TRUSTSCALE_UPSCALERS", json.dumps([worker | headers]))
    (place / "trustscale.toml").write_text(
        'store = "redis://:${PASSWORD}@host/1"\nclient_keys = ["${KEY}"]\n'
        'blobs = "file:///${FOLDER}/blobs"\n'
    )
    for outcome in (run("config", "check"), run("config", "check", "--json")):
        assert outcome.code == 0
        assert "word-" not in outcome.out + outcome.err
        assert "host/1" in outcome.out
        assert "host:1/2" in outcome.out
        assert "***/blobs" in outcome.out
    assert outcome.json["upscalers"][0]["headers"] == {"X-Tenant": "***"}


NO_MODEL = '[{"name": "a", "kind": "embedded", "model": "none.onnx"}]'


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("TRUSTSCALE_QUEUE", "redis://:secret@host:port/0", "queue URL"),
        ("TRUSTSCALE_STORE", "redis://:secret/x@host/0", "URL cannot be read"),
        ("TRUSTSCALE_UPSCALERS", NO_MODEL, "none.onnx"),
        ("WEB_CONCURRENCY", "2", "WEB_CONCURRENCY"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "config check"])
def test_before_a_server_runs(run, monkeypatch, name, value, words, command):
    """`serve` says in one line what it cannot start with, and `config check` says the same."""
    monkeypatch.setattr("trustscale_server.cli.serve.configure_logs", lambda *_: None)
    monkeypatch.setenv(name, value)
    outcome = run(*command.split())
    outcome.check_error(2)
    assert words.lower() in outcome.err.lower()
    assert "secret" not in outcome.err


def test_progress_without_a_terminal(capsys, monkeypatch):
    """A line every so often, also where nothing moves."""
    monkeypatch.setattr("trustscale_server.cli.bars.LINE_EVERY_S", 0.01)
    said = []
    with progress_bars() as bars:
        bars("upscaling", 1, 9)
        block_until(lambda: said.append(capsys.readouterr().err) or "".join(said).count("\n") > 1)
    line = r"upscaling: 1 of 9 after \d+ seconds, about \d+ seconds left\n"
    assert re.search(line, "".join(said))


def test_connect(run, place):
    file = place / "own.toml"
    with serving(answering(prompt={"type": "string"})) as address:
        url = f"http://{address}"
        asked = run("connect", url)
        assert (asked.code, asked.out) == (2, "")
        assert "--set request.json.prompt=…" in asked.err
        given = ("--set", "request.json.prompt=sharp", "--name", "mine", "--write", file)
        declined = run("connect", url, *given)
        assert f"takes {100 * len(TYPICAL_UPLOADS.variants()) + 8:,} calls" in declined.err
        assert not file.exists()
        outcome = run("connect", url, *given, "--yes")
        assert outcome.code == 0, outcome.err
        assert "It works: ×2" in outcome.err
        (told,) = tomllib.loads(outcome.out)["upscalers"]
        assert told["request"]["json"]["prompt"] == "sharp"
        assert tomllib.loads(file.read_text("utf-8"))["upscalers"][len(SHIPPED_MODELS) :] == [told]
        again = run("connect", url, *given, "--yes")
        assert again.code == 2
        assert "has an upscaler mine" in again.err
    model = resources.files("trustscale_server.upscalers.embedded").joinpath(
        "models", SHIPPED_MODELS["span-x4"].file
    )
    outcome = run("connect", model, "--yes", "--json")
    assert (outcome.json["entry"]["model"], outcome.json["scale"]) == (str(model), 4)
    missing = run("connect", "model.onnx", "--yes")
    assert (missing.code, missing.out) == (1, "")
    assert "model.onnx: No such file" in missing.err
    run("connect", url, "--token-env", "NO_SUCH").check_error(2, "NO_SUCH is not set")
