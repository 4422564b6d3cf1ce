"""The SDK of OpenTelemetry behind `tracing.py`; imported only where traces are wanted.

Spans go to the collector from a thread of their own. What it does not take in time is dropped, so
that a dead collector neither slows nor fails anything. Further settings are the standard ones of
the SDK, `OTEL_…`: sampling, headers for the collector, resource attributes, sizes of batches.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app import __version__
from app.telemetry.tracing import Attribute, Kind, Span

EXPORT_TIMEOUT_S: Final = 5.0
"""How long the collector may take for one batch."""

GOODBYE_S: Final = 2.0
"""How long a stopping process waits for the collector to take the last spans."""

_END_S: Final = 1.0

_CONTEXT: Final = TraceContextTextMapPropagator()

log = logging.getLogger(__name__)


class SdkRecorder:
    """Records into a provider that is ours alone: libraries do not find it."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("trustscale", __version__)

    def span(
        self,
        name: str,
        attributes: Mapping[str, Attribute] | None,
        kind: Kind,
        parent: Mapping[str, str] | None,
    ) -> Span:
        """See `app.telemetry.tracing.span`."""
        # Headers without a context begin a trace of their own, whatever is around.
        around = None if parent is None else _CONTEXT.extract(parent, context.Context())
        return _RecordedSpan(
            self._tracer.start_span(
                name, around, trace.SpanKind[kind.upper()], attributes=dict(attributes or {})
            )
        )

    def headers(self) -> dict[str, str]:
        """See `app.telemetry.tracing.headers`."""
        carrier: dict[str, str] = {}
        _CONTEXT.inject(carrier)
        return carrier

    def ids(self) -> dict[str, str]:
        """See `app.telemetry.tracing.ids`."""
        present = trace.get_current_span().get_span_context()
        if not present.is_valid:
            return {}
        return {"trace_id": f"{present.trace_id:032x}", "span_id": f"{present.span_id:016x}"}


class _RecordedSpan:
    """A span of the SDK, the present one inside its `with`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: Any = None

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.fail(kind.__name__)  # the class only: texts of errors may name files
        context.detach(self._token)
        self._span.end()

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(dict(attributes))

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.StatusCode.ERROR)


@contextmanager
def collected(endpoint: str, service: str) -> Iterator[SdkRecorder]:
    """A recorder whose spans go to a collector (`app.telemetry.export.exporting`)."""
    named = Resource.create({"service.name": service, "service.version": __version__})
    provider = TracerProvider(
        resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
    )
    url = f"{endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/traces"
    exporter = _ToldOnce(OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT_S))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield SdkRecorder(provider)
    finally:
        # The SDK alone would wait for a dead collector as long as for each batch that is left.
        farewell = threading.Thread(target=provider.shutdown, daemon=True)
        farewell.start()
        farewell.join(GOODBYE_S)
        exporter.shutdown()  # ends its waiting for another try; what is left is dropped
        farewell.join(_END_S)


class _ToldOnce(SpanExporter):
    """An exporter whose failures are logged when they begin and when they end."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_away = False
        # The SDK logs every try and every batch that is lost.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        is_away = result is not SpanExportResult.SUCCESS
        if is_away and not self._is_away:
            log.warning("The collector takes no traces; they are dropped until it does.")
        elif self._is_away and not is_away:
            log.warning("The collector takes traces again.")
        self._is_away = is_away
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
