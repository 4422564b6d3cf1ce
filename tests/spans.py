"""Spans of this process, kept in memory, and a collector that takes them over HTTP."""

from __future__ import annotations

from contextlib import contextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tests.live import serving
from trustscale_server.platform.telemetry.traces import recording


class Spans:
    def __init__(self, exporter):
        self._exporter = exporter

    def all(self):
        """All finished spans in the order of their starts."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name):
        return [span for span in self.all() if span.name == name]

    def one(self, name):
        (only,) = self.named(name)
        return only

    def parent(self, span):
        """Name of the span around it, if it was recorded here."""
        by_id = {other.context.span_id: other.name for other in self.all()}
        return by_id.get(span.parent.span_id) if span.parent else None

    def said(self):
        """Everything that leaves the process with them, as one text."""
        return " ".join(span.to_json() for span in self.all())


@contextmanager
def recorded():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with recording(provider.get_tracer("trustscale")):
        yield Spans(exporter)
    provider.shutdown()


class Collector:
    url: str

    def __init__(self):
        self.requests: list[ExportTraceServiceRequest] = []

    @contextmanager
    def running(self):
        with serving(Starlette(routes=[Route("/v1/traces", self._take, methods=["POST"])])) as at:
            self.url = f"http://{at}"
            yield self

    async def _take(self, request):
        self.requests.append(ExportTraceServiceRequest.FromString(await request.body()))
        answer = ExportTraceServiceResponse().SerializeToString()
        return Response(answer, media_type="application/x-protobuf")

    def names(self):
        return [
            span.name
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def services(self):
        return {
            attribute.value.string_value
            for request in self.requests
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }
