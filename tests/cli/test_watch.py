"""Watching a job on a server: streams of events that a proxy ends or refuses."""

from __future__ import annotations

import json

import httpx
import pytest

from app.cli.remote import Remote, RemoteError


@pytest.fixture
def watched(monkeypatch):
    """What a watcher is told, and how long it waited, of the answers to its questions."""

    def watched(*answers):
        waits, left = [], list(answers)
        monkeypatch.setattr("app.cli.remote.time.sleep", waits.append)
        told = []

        def answer(_):
            status, states = left.pop(0)
            lines = [json.dumps({"state": s, "progress": {"done": 0}}) for s in states]
            return httpx.Response(status, text="".join(f"data: {line}\n\n" for line in lines))

        remote = Remote("http://host", "key")
        transport = httpx.MockTransport(answer)
        remote._client = httpx.Client(transport=transport, base_url="http://host")
        failure = ""
        try:
            told.extend(present["state"] for present in remote.watch("job-x"))
        except RemoteError as error:
            failure = error.detail
        return told, waits, failure

    return watched


def test_ends_early(watched):
    """The question is repeated after waits that grow to 10 s, however often it takes."""
    told, waits, _ = watched(*[(200, ["running"])] * 7, (200, ["succeeded"]))
    assert told == ["running"] * 7 + ["succeeded"]
    assert waits == [1, 2, 5, 10, 10, 10, 10]


def test_news_begin_again(watched):
    """After news the waits are short again."""
    _, waits, _ = watched(*[(200, [s]) for s in ("queued", "queued", "running", "succeeded")])
    assert waits == [1, 2, 1]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_without_its_server(watched, status):
    """A gateway that is restarted behind its proxy is waited for."""
    answers = [(200, ["running"]), (status, []), (status, []), (200, ["succeeded"])]
    assert watched(*answers) == (["running", "succeeded"], [1, 0.5, 2], "")


def test_for_good(watched):
    """Not for ever."""
    told, waits, failure = watched(*[(502, [])] * 5)
    assert (told, len(waits)) == ([], 4)
    assert "502" in failure


def test_no_events(watched):
    """A server that ends every stream without an event is none of ours."""
    told, waits, failure = watched(*[(200, [])] * 5)
    assert (told, len(waits)) == ([], 4)
    assert "does not answer as Trustscale" in failure


def test_other_refusals(watched):
    """Any other refusal is told at once."""
    assert watched((404, []))[:2] == ([], [])
