"""Spans and logs: what is recorded, for whom, and what never."""

import logging
import socket
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest
import structlog

from harness.servers import ProcessGroup, free_port
from tests.logs import logging_as
from tests.spans import Collector, recorded
from trustscale_server.platform.errors import ConfigError
from trustscale_server.platform.telemetry import traces
from trustscale_server.platform.telemetry.otel import Patience, collected

PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def test_spans_and_their_children():
    """A span belongs to the trace that asked, and carries it on."""
    with recorded() as spans, traces.span("outer", parent=PARENT), traces.span("inner"):
        carried = traces.headers()["traceparent"].split("-")
    outer, inner = spans.all()
    trace, span = PARENT["traceparent"].split("-")[1:3]
    assert f"{outer.context.trace_id:032x}" == trace == carried[1]
    assert f"{outer.parent.span_id:016x}" == span
    assert inner.parent.span_id == outer.context.span_id
    assert carried[2] == f"{inner.context.span_id:016x}"


@contextmanager
def exported(url, *, exporter=None, flush_timeout_s=60.0):
    patience = Patience(60.0, flush_timeout_s, 60.0)
    with collected(url, "trustscale-test", patience, exporter) as tracer, traces.recording(tracer):
        yield


def test_a_dead_collector(caplog, monkeypatch):
    """It is logged once, and no thread outlives the export."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can
        with exported(f"http://127.0.0.1:{taken.getsockname()[1]}", flush_timeout_s=0.5):
            for _ in range(2000):
                with traces.span("a"):
                    pass
    assert len(caplog.records) <= 1
    names = {thread.name for thread in threading.enumerate()}
    assert not {name for name in names if name.startswith("Otel")}


@pytest.mark.parametrize("url", ["collector:4317", "grpc://c:4317", "http://me:secret@c:4318"])
def test_what_is_no_address_of_a_collector(url, monkeypatch):
    """Other protocols and passwords are refused in one line that does not repeat them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    with pytest.raises(ConfigError, match="OTLP_ENDPOINT") as caught, traces.exporting("a"):
        pass
    assert "secret" not in caught.value.detail


@pytest.mark.slow
def test_a_stopped_program_loses_no_span(tmp_path):
    with Collector().running() as collector:
        port = free_port()
        env = {
            "TRUSTSCALE_DATA_DIR": str(tmp_path / "data"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "600000",
            "TRUSTSCALE_UPSCALERS": '[{"name": "a", "kind": "worker", "urls": ["http://127.0.0.1:9"]}]',
        }
        code = (
            "from trustscale_server.platform.telemetry import otel\n"
            "from trustscale_server.cli.main import main\n"
            "otel.PATIENCE = otel.Patience(60, 60, 60)  # the collector may be slow\n"
            "main()"
        )
        command = [sys.executable, "-c", code, "serve", "--port", str(port)]
        with (
            ProcessGroup(command, log=tmp_path / "log", env=env) as server,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
        ):
            server.wait_for(f"http://127.0.0.1:{port}/healthz", "the gateway")
            assert client.get("/v1/upscalers").status_code == 200
            assert collector.names() == []
            server.stop()
        assert collector.names() == ["GET /v1/upscalers"]
        assert collector.services() == {"trustscale-gateway"}
        assert '"trace_id"' in (tmp_path / "log").read_text()


LONGEST = 40_000
SECRET = f"token-of-{3 * 7}-people"  # a value that no line of the source holds


def failed(secret, depth=0):
    if depth:
        failed(secret, depth - 1)
    try:
        {}["first"]
    except KeyError:
        raise ValueError("said") from None


def endless(secret):
    """A recursion of two functions, where each failure is handled by another."""
    try:
        other(secret)
    except RecursionError as error:
        raise RuntimeError("x" * 100_000) from error


def other(secret):
    endless(secret)


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("failing", [failed, endless])
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "library"])
def test_no_values_and_a_bound(capsys, style, failing, ours):
    """An error is logged by frames and message, never with locals, never at length."""
    with logging_as(style):
        try:
            failing(SECRET)
        except Exception as error:
            if ours:
                structlog.get_logger("x").error("event", exc_info=error)
            else:
                logging.getLogger("library").exception("event")
    written = capsys.readouterr().err
    assert SECRET not in written
    assert f"in {failing.__name__}" in written
    assert len(written) < LONGEST
    assert "KeyError" not in written  # as the error itself says, by `from None`
