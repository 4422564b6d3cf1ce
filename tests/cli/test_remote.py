"""`--server`: the calibration commands over a real connection to a gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

import app.cli.remote
from app.calibration.insight import COMMON_ALPHAS
from tests.api.admin import label
from tests.api.gateway import ADMIN_KEY
from tests.cli.conftest import FORCED
from tests.factories import encoded, photo, truths
from tests.servers import free_port


class TestCalibrate:
    def test_as_locally(self, at, run, place):
        """The same folder gives the same calibration here and there, described alike."""
        truths(place / "photos", 4)
        (place / "names.txt").write_text("A by B\nC by D\n", "utf-8")
        arguments = ("calibrate", "photos", "--samples", 4, "--name", "mine", "--noise", 2)
        arguments += ("--note", "a note", "--attributions", "names.txt")
        there = at(*arguments, "--json", "--export", "there.calibration")
        assert there.code == 0, there.err
        here = run(*arguments, "--json").json
        differ = {"id", "created_at", "provenance", "skipped"}
        assert {k: v for k, v in there.json.items() if k not in differ} == {
            k: v for k, v in here.items() if k not in differ
        }
        assert there.json["provenance"]["note"] == "a note"
        assert there.json["provenance"]["attributions"] == ["A by B", "C by D"]
        assert (place / "there.calibration").stat().st_size > 0
        assert there.err.startswith("job-")

    def test_groups_and_guarantee(self, at, place):
        """Groups travel beside the files; another guarantee is derived there."""
        for group in ("day", "night"):
            truths(place / "photos" / group, 2)
            (place / "photos" / group / f"{group}.png").write_bytes(
                encoded(photo(len(group), 48, 48))
            )
        for k in range(2):
            (place / "photos" / "night" / f"{k:03}.png").write_bytes(encoded(photo(20 + k, 48, 48)))
        arguments = ("calibrate", "photos", "--samples", 4, "--group-by", "folder", "--json")
        made = at(*arguments, "--guarantee", "high_probability").json
        assert made["guarantee"]["kind"] == "high_probability"
        assert [(row["group"], row["n"]) for row in made["groups"]] == [("day", 3), ("night", 3)]
        derived = at("calibrations", "derive", made["id"], "--delta", 0.3, "--json").json
        assert (derived["guarantee"]["delta"], derived["active"]) == (0.3, False)
        night = at("calibrations", "show", derived["id"], "--group", "night", "--json").json
        assert night["n"] == 3

    def test_inputs_and_odd_sizes(self, at, place):
        """X and Y of any file size arrive unchanged."""
        for k in range(3):
            for side, part in ((48 + 2 * k, "y"), (24 + k, "x")):
                (place / "pairs" / part).mkdir(parents=True, exist_ok=True)
                image = encoded(photo(k, side, side))
                (place / "pairs" / part / f"é {k}.png").write_bytes(image)
        made = at("calibrate", "pairs", "--samples", 4, "--json").json
        assert (made["n"], made["degradation"]) == (3, None)

    def test_many_megabytes(self, at, place):
        """A file of many chunks is streamed whole."""
        folder = truths(place / "photos", 1)
        (folder / "large.png").write_bytes(encoded(photo(5, 48, 48)) + os.urandom(3_000_001))
        assert at("calibrate", "photos", "--samples", 2, "--json").json["n"] == 2

    def test_bad_pairs(self, at, place, server):
        """Each is named on a line of its own; the last line is the reason, the code 1."""
        folder = truths(place / "photos", 2)
        (folder / "bad.png").write_bytes(b"text")
        (folder / "copy.png").write_bytes((folder / "000.png").read_bytes())
        outcome = at("calibrate", "photos", "--samples", 4)
        lines = outcome.err.splitlines()
        assert (outcome.code, outcome.out) == (1, "")
        assert {line.partition(":")[0] for line in lines} == {"bad", "copy", "trustscale"}
        assert lines[-1].startswith("trustscale: 2 of 4 pairs cannot be used")
        assert server.upscaler.calls == []

    def test_a_job_that_fails(self, at, place):
        """Damage that shows late is told the same way."""
        folder = truths(place / "photos", 2)
        whole = encoded(photo(9, 48, 48))
        (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
        outcome = at("calibrate", "photos", "--samples", 4)
        assert outcome.code == 1
        assert "\ncut" in outcome.err
        assert outcome.err.splitlines()[-1].startswith("trustscale: ")

    def test_semantic(self, at, place):
        """Without labels the job waits for them; the command says where, and is done."""
        truths(place / "photos", 2)
        (place / "photos" / "bad.png").write_bytes(b"text")
        skipping = ("--samples", 4, "--metric", "semantic", "--skip-bad-pairs")
        outcome = at("calibrate", "photos", *skipping)
        assert (outcome.code, outcome.out) == (0, "")
        job = outcome.err.split()[0]
        assert f"{job} awaits labels" in outcome.err
        shown = at("calibrations", "show", job).out
        assert shown == f"{job} is awaiting_labels, 2 of 2 pairs, 1 left out\n"

    def test_jobs(self, at, run, place):
        """What has not ended is listed, and can be given up, there as here."""
        truths(place / "photos", 1)
        asked = at("calibrate", "photos", "--samples", 4, "--metric", "semantic")
        job = asked.err.split()[0]
        assert f"{job}  calibration  awaiting_labels  1 of 1 pairs" in at("jobs", "list").out
        assert at("jobs", "cancel", job, "--json").json["state"] == "cancelled"
        assert job not in {row["id"] for row in at("jobs", "list", "--json").json}
        assert run("jobs", "list").out == ""
        for command in (at, run):
            command("jobs", "cancel", "job-unknown").check_error(1, "job-unknown")

    def test_labels_with_their_predictions(self, at, place, server):
        """labels/ and its predictions.json travel with the pairs."""
        truths(place / "pairs" / "y", 2)
        asked = at("calibrate", "pairs", "--samples", 4, "--metric", "semantic")
        job = asked.err.split()[0]
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        pairs = httpx.get(f"{server.url}/v1/admin/calibrations/{job}/pairs", headers=headers).json()
        labels = place / "pairs" / "labels"
        labels.mkdir()
        for item in pairs:
            (labels / f"{item['name']}.png").write_bytes(label(differs=True))
        claimed = {item["name"]: item["prediction_sha256"] for item in pairs}
        (labels / "predictions.json").write_text(json.dumps(claimed))
        made = at("calibrate", "pairs", "--samples", 4, "--metric", "semantic", "--json").json
        assert (made["n"], made["pipeline"]["fidelity"]["bound"]) == (2, 1)


class TestConnection:
    def test_key(self, run, at, server, place, monkeypatch):
        """The key comes from the variable that is named; without it nothing is sent."""
        assert at("calibrations", "list").code == 0
        monkeypatch.setenv("TRUSTSCALE_KEY", "wrong")
        at("calibrations", "list").check_error(1, "key is not valid")
        monkeypatch.setenv("MY_KEY", ADMIN_KEY)
        assert at("calibrations", "list", "--key-env", "MY_KEY").code == 0
        monkeypatch.setenv("MY_KEY", "client-key")
        at("calibrations", "list", "--key-env", "MY_KEY").check_error(1, "admin")
        monkeypatch.delenv("TRUSTSCALE_KEY")
        outcome = at("calibrations", "list")
        outcome.check_error(2, "TRUSTSCALE_KEY", server.url)

    def test_a_wrong_key_during_an_upload(self, at, place, monkeypatch):
        """The server refuses before it reads the upload; this is told, not a broken pipe."""
        monkeypatch.setenv("TRUSTSCALE_KEY", "wrong")
        folder = truths(place / "photos", 1)
        (folder / "large.png").write_bytes(encoded(photo(5, 48, 48)) + bytes(30_000_000))
        at("calibrate", "photos").check_error(1, "key is not valid")

    def test_the_key_is_a_known_variable(self, run, server):
        """`config check` does not call it misspelt."""
        assert "TRUSTSCALE_KEY" not in run("config", "check").err

    def test_nobody_there(self, run, server):
        """One line that names the server."""
        url = f"http://127.0.0.1:{free_port()}"
        run("calibrations", "list", "--server", url).check_error(1, "Cannot reach", url)
        assert run("calibrations", "list", "--server", "localhost:80").code == 2

    @pytest.mark.parametrize("url", ["http://[::1", "http://host:port", "http://a\x00b"])
    def test_addresses_that_are_none(self, run, server, url):
        """A URL that cannot be read is a wrong option."""
        run("calibrations", "list", "--server", url).check_error(2, "--server")

    @pytest.mark.parametrize("key", ["schlüssel", "a\nb"])
    def test_keys_that_cannot_be_sent(self, at, monkeypatch, key):
        """A key that no header can carry is a wrong setting, and is not repeated."""
        monkeypatch.setenv("TRUSTSCALE_KEY", key)
        outcome = at("calibrations", "list")
        outcome.check_error(2, "TRUSTSCALE_KEY")
        assert key not in outcome.err

    @pytest.mark.parametrize(
        ("status", "body"), [(200, b"<html>"), (200, b"{}"), (404, b"[1"), (502, b"")]
    )
    def test_another_server(self, run, server, status, body):
        """A server that is something else gives one line, whatever it answers."""
        with _answering(status, body) as url:
            outcome = run("calibrations", "show", "cal-x", "--server", url)
        outcome.check_error(1)


class TestCalibrations:
    @pytest.fixture
    def command(self, at):
        """What makes `two`."""
        return at

    def test_show(self, at, run, two, place):
        """The same text and the same JSON as of a local copy."""
        assert at("calibrations", "export", two[1], "a.calibration").code == 0
        assert run("calibrations", "import", "a.calibration", *FORCED).code == 0
        for form in ([], ["--json"]):
            there, here = (
                command("calibrations", "show", two[1], *form).out for command in (at, run)
            )
            assert there == here

    def test_import(self, at, run, two, place):
        """A file from here is stored there."""
        truths(place / "others", 2)
        made = run(
            "calibrate", "others", "--samples", 4, "--export", "b.calibration", "--json"
        ).json
        outcome = at("calibrations", "import", "b.calibration", *FORCED)
        assert outcome.out == f"{made['id']}\n"
        assert at("calibrations", "show", made["id"], "--json").json["active"]

    def test_backtest(self, at, run, two, place):
        """What a server expects of a calibration is what is expected of a copy here."""
        assert at("calibrations", "export", two[1], "a.calibration").code == 0
        assert run("calibrations", "import", "a.calibration").code == 0
        for form in ([], ["--json", "--splits", 7]):
            there, here = (
                command("calibrations", "backtest", two[1], *form).out for command in (at, run)
            )
            assert there == here
        assert there.count('"violations"') == len(COMMON_ALPHAS)

    def test_extend_and_delete(self, at, two, place):
        """More pairs make a new calibration of all; the old one can go, and the log tells."""
        for k in (7, 8):
            (place / "more").mkdir(exist_ok=True)
            (place / "more" / f"new{k}.png").write_bytes(encoded(photo(k, 48, 48)))
        made = at("calibrations", "extend", two[0], "more", "--json").json
        assert (made["n"], made["active"]) == (5, False)
        assert at("calibrations", "delete", two[0]).out == f"{two[0]} is deleted\n"
        at("calibrations", "show", two[0]).check_error(1, two[0])
        at("calibrations", "delete", two[1]).check_error(1, "active")
        actions = [entry["action"] for entry in at("calibrations", "audit", "--json").json]
        assert actions[:2] == ["calibration.delete", "calibration.extend"]
        line = at("calibrations", "audit", "--limit", 1).out
        assert "calibration.delete" in line
        assert two[0] in line


@pytest.mark.slow
def test_interrupted(server, place):
    """Ctrl-C leaves the job running and says how to find it."""
    server.upscaler.seconds = 3600
    server.asked.clear()
    truths(place / "photos", 8)
    # Programs that are started in the background ignore Ctrl-C, and so do their own.
    code = (
        "import signal\n"
        "from app.cli.main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main()"
    )
    command = [sys.executable, "-c", code, "calibrate", "photos", "--server", server.url]
    root = Path(app.cli.remote.__file__).parents[2]
    with subprocess.Popen(
        [*command, "--samples", "4"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert "is queued" in process.stderr.readline()
        while not any(path.startswith("/v1/jobs/") for path in server.asked):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in told
    assert "The job goes on" in told
    job = next(word for word in told.split() if word.startswith("job-"))
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        while (state := client.get(f"/v1/jobs/{job}").json()["state"]) == "queued":
            time.sleep(0.01)
        assert state == "running"
        client.delete(f"/v1/jobs/{job}")
        assert '"cancelled"' in client.get(f"/v1/jobs/{job}/events").text


@contextmanager
def _answering(status: int, body: bytes) -> Iterator[str]:
    """A server that always gives this answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
