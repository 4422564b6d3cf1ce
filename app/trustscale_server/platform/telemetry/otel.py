"""OpenTelemetry's SDK behind `traces.py`; imported only when tracing is on.

A thread sends spans to the collector. Spans that it does not accept in time are dropped, so that a
dead collector neither slows nor fails anything. The SDK's own settings are `OTEL_…` variables.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from trustscale_server import __version__


class Patience(NamedTuple):
    """Timeouts for the collector in seconds."""

    batch_s: float = 5.0
    flush_timeout_s: float = 2.0  # for the last spans of a stopping process
    end_s: float = 1.0  # after that


PATIENCE = Patience()

log = logging.getLogger(__name__)


@contextmanager
def collected(
    endpoint: str,
    service: str,
    patience: Patience | None = None,
    exporter: SpanExporter | None = None,
) -> Iterator[Tracer]:
    """Make a tracer whose spans go to a collector; see `traces.exporting`."""
    patience = patience or PATIENCE
    resource = Resource.create({"service.name": service, "service.version": __version__})
    provider = TracerProvider(
        resource=resource.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    url = f"{endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/traces"
    exporter = _LoggedOnce(exporter or OTLPSpanExporter(url, timeout=patience.batch_s))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield provider.get_tracer("trustscale", __version__)
    finally:
        # The SDK alone would wait for a dead collector once per remaining batch.
        farewell = threading.Thread(target=provider.shutdown, daemon=True)
        farewell.start()
        farewell.join(patience.flush_timeout_s)
        exporter.shutdown()
        farewell.join(patience.end_s)


class _LoggedOnce(SpanExporter):
    """An exporter that logs when failures begin and end, not each of them."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._fails = False
        # The SDK logs every attempt and every lost batch.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            log.warning("The collector does not accept traces; they are dropped until it does.")
        elif self._fails and not fails:
            log.warning("The collector accepts traces again.")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
