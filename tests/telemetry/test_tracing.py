"""Tracing: nothing at all while it is off, and never in the way while it is on."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import httpx
import pytest
import structlog
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import app.telemetry
from app.errors import BadImage, ConfigError
from app.settings import load_settings
from app.telemetry import tracing
from app.telemetry.otel import Patience, collected
from app.telemetry.tracing import exporting
from tests.logs import logging_as
from tests.servers import ProcessGroup, free_port
from tests.spans import Collector, recorded

PARENT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


class TestOff:
    def test_nothing_is_recorded(self):
        """Spans do nothing, and there is nothing to carry or to log."""
        with tracing.span("a", {"x": 1}, kind="server", parent=PARENT) as first:
            first.set_attributes({"y": 2})
            tracing.fail(first, "e")
            with tracing.span("b") as second:
                assert not first.is_recording()
                assert not second.is_recording()
                assert tracing.headers() == tracing.ids() == {}
                assert tracing.context() is None

    def test_the_sdk_is_not_imported(self):
        """Gateway and command line load neither SDK nor exporter."""
        code = (
            "import sys, app.main, app.cli.jobs\n"
            "wrong = [n for n in sys.modules if n.startswith(('opentelemetry.sdk.trace', "
            "'opentelemetry.exporter', 'app.telemetry.otel'))]\n"
            "sys.exit(' '.join(wrong) or 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr

    def test_without_the_extra(self, monkeypatch):
        """A collector without the extra that talks to it is one line."""
        monkeypatch.setitem(sys.modules, "app.telemetry.otel", None)
        monkeypatch.delattr(app.telemetry, "otel", raising=False)
        with (
            pytest.raises(ConfigError, match=r"need the extra `tracing`"),
            exporting("http://127.0.0.1:4318", "x"),
        ):
            pass


class TestOn:
    def test_children(self):
        """What begins inside a span is its child; headers begin or continue a trace."""
        with recorded() as spans:
            with tracing.span("outer", parent=PARENT), tracing.span("inner"):
                carried = tracing.headers()["traceparent"]
            with tracing.span("other", parent={}):
                pass
        outer, inner, other = spans.all()
        trace, span = PARENT["traceparent"].split("-")[1:3]
        assert f"{outer.context.trace_id:032x}" == trace
        assert f"{outer.parent.span_id:016x}" == span
        assert inner.parent.span_id == outer.context.span_id
        assert carried.split("-")[1:3] == [trace, f"{inner.context.span_id:016x}"]
        assert other.parent is None
        assert other.context.trace_id != outer.context.trace_id

    @pytest.mark.parametrize("sent", ["", "00-0-0-0", "x" * 300, "00-" + "0" * 32 + "-00-01"])
    def test_bad_headers_begin_a_trace(self, sent):
        """What is no context is as good as none."""
        with recorded() as spans, tracing.span("a", parent={"traceparent": sent}):
            pass
        assert spans.one("a").parent is None

    def test_an_error_is_told_by_its_class(self):
        """Texts of errors may name files; they stay here."""
        with recorded() as spans, pytest.raises(BadImage), tracing.span("a"):
            raise BadImage("secret.png is damaged.")
        failed = spans.one("a")
        assert failed.attributes == {"error.type": "BadImage"}
        assert failed.status.status_code.name == "ERROR"
        assert not failed.events
        assert not failed.status.description

    def test_logs_name_the_span(self, capsys):
        """Events of ours and of libraries carry the ids of trace and span."""
        with logging_as("json"):
            with recorded() as spans, tracing.span("a"):
                structlog.get_logger("x").info("ours", request_id="r")
                logging.getLogger("library").warning("theirs")
            structlog.get_logger("x").info("after")
        ours, theirs, after = map(json.loads, capsys.readouterr().err.splitlines())
        span = spans.one("a")
        for event in (ours, theirs):
            assert event["trace_id"] == f"{span.context.trace_id:032x}"
            assert event["span_id"] == f"{span.context.span_id:016x}"
        assert "trace_id" not in after


class Blocked(SpanExporter):
    """An exporter whose collector never answers: it waits until it is shut down."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.threads: list[threading.Thread] = []
        self.ended: list[bool] = []

    def export(self, spans: object) -> SpanExportResult:
        self.threads.append(threading.current_thread())
        self.ended.append(self.over.wait(60))
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.over.set()


@contextmanager
def exported(url: str, *, exporter: SpanExporter | None = None, flush_timeout_s: float = 60.0):
    """Spans go to a collector, on a machine that may be slow."""
    patience = Patience(60.0, flush_timeout_s, 60.0)
    with (
        collected(url, "trustscale-test", patience, exporter) as tracer,
        tracing.recording(tracer),
    ):
        yield


class TestCollector:
    @pytest.mark.parametrize("service", ["trustscale-test", "upscaling-eu"])
    def test_spans_arrive(self, monkeypatch, service):
        """A real exporter brings all spans to a real receiver before the process ends.

        The standard variable may name the service.
        """
        monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
        if service != "trustscale-test":
            monkeypatch.setenv("OTEL_SERVICE_NAME", service)
        with Collector().running() as collector:
            with exported(f"{collector.url}/"):
                for _ in range(3):
                    with tracing.span("outer", {"trustscale.samples": 4}), tracing.span("inner"):
                        pass
            assert sorted(collector.names()) == ["inner"] * 3 + ["outer"] * 3
            assert collector.services() == {service}
        assert tracing.headers() == {}

    def test_a_dead_collector(self, caplog, monkeypatch):
        """It is told once, and nothing of it goes on behind the program."""
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can
            with exported(f"http://127.0.0.1:{taken.getsockname()[1]}", flush_timeout_s=0.5):
                for _ in range(2000):
                    with tracing.span("a"):
                        pass
        assert len(caplog.records) <= 1
        names = {thread.name for thread in threading.enumerate()}
        assert not {name for name in names if name.startswith("Otel")}

    def test_a_collector_that_never_answers(self, monkeypatch):
        """No span waits for it, and the end gives up the batch that is on its way."""
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        blocked = Blocked()
        with exported("http://127.0.0.1:1", exporter=blocked, flush_timeout_s=0.1):
            for _ in range(2000):
                with tracing.span("a"):
                    pass
            assert not blocked.over.is_set()
        assert threading.current_thread() not in blocked.threads
        assert blocked.ended
        assert all(blocked.ended)


class TestSetting:
    def test_the_standard_variable(self, tmp_path, monkeypatch):
        """Without a collector there are no traces; ours comes before OpenTelemetry's variable."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
        assert load_settings().otlp_endpoint is None
        for name, value in (
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4318"),
            ("TRUSTSCALE_OTLP_ENDPOINT", "https://ours:4318/otlp"),
            ("TRUSTSCALE_OTLP_ENDPOINT", ""),
        ):
            monkeypatch.setenv(name, value)
            assert load_settings().otlp_endpoint == (value or None)

    @pytest.mark.parametrize("url", ["collector:4317", "grpc://c:4317", "http://me:secret@c:4318"])
    def test_what_is_no_address_of_a_collector(self, url):
        """Other protocols and passwords are refused in one line that does not repeat them."""
        with pytest.raises(ConfigError, match="otlp_endpoint") as caught:
            load_settings(otlp_endpoint=url)
        assert "secret" not in caught.value.detail


@pytest.mark.slow
def test_a_stopped_program_loses_no_span(tmp_path):
    """SIGTERM sends what no batch has taken yet."""
    with Collector().running() as collector:
        port = free_port()
        env = {
            "TRUSTSCALE_DATA_DIR": str(tmp_path / "data"),
            "TRUSTSCALE_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "600000",
        }
        code = (
            "from app.telemetry import otel\n"
            "from app.cli.main import main\n"
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
