"""What requests and jobs do, as OpenTelemetry traces where they are on.

By default they are off; spans do nothing then, and the SDK (extra `tracing`) is not imported. Spans
come from a private tracer, which libraries that trace themselves do not use. They hold numbers,
names of upscalers and ids of calibrations; never keys, images, file names, or ids of results and
jobs (these grant access). A trace continues in the job of a request (`context`) and in our workers
(`headers`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from trustscale_server.platform.errors import ConfigError

_COLLECTOR: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_CONTEXT = TraceContextTextMapPropagator()
_tracer: Tracer | None = None


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, str | int | float | bool] | None = None,
    *,
    kind: Literal["internal", "server", "client", "producer", "consumer"] = "internal",
    parent: Mapping[str, str] | None = None,
) -> Iterator[Span]:
    """Open a span; an error that leaves its `with` marks it as failed. It may be ended earlier.

    parent: W3C Trace Context headers; an empty mapping begins a new trace; None: the enclosing
    span is the parent.
    """
    if _tracer is None:
        yield INVALID_SPAN
        return
    parent_context = None if parent is None else _CONTEXT.extract(parent, Context())
    with _tracer.start_as_current_span(
        name,
        parent_context,
        SpanKind[kind.upper()],
        dict(attributes or {}),
        record_exception=False,  # texts of errors may name files
        set_status_on_exception=False,
        end_on_exit=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            fail(current, type(error).__name__)
            raise
        finally:
            if current.is_recording():
                current.end()


def fail(span: Span, kind: str) -> None:
    """Mark a span as failed; `kind` has few values."""
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def headers() -> dict[str, str]:
    """Return W3C Trace Context headers for another process; empty outside spans."""
    carrier: dict[str, str] = {}
    _CONTEXT.inject(carrier)
    return carrier


def context() -> str | None:
    """Return the context as a value to store, for `resumed`; None outside spans."""
    return headers().get("traceparent")


def resumed(stored: str | None) -> dict[str, str]:
    """Return the `parent` of a span from a stored context; None starts a new trace."""
    return {} if stored is None else {"traceparent": stored}


def ids() -> dict[str, str]:
    """Return the present span's `trace_id` and `span_id` in hex; empty outside spans."""
    present = get_current_span().get_span_context()
    if not present.is_valid:
        return {}
    return {"trace_id": f"{present.trace_id:032x}", "span_id": f"{present.span_id:016x}"}


@contextmanager
def recording(tracer: Tracer) -> Iterator[None]:
    """Use a tracer for the spans of this process inside the `with`."""
    global _tracer  # noqa: PLW0603 - tracing is a property of the process, like logging
    before, _tracer = _tracer, tracer
    try:
        yield
    finally:
        _tracer = before


@contextmanager
def exporting(service: str) -> Iterator[None]:
    """Send the spans of this process to a collector inside the `with`.

    `OTEL_EXPORTER_OTLP_ENDPOINT` is its base URL, such as `http://collector:4318`; without it
    nothing is sent. service: `service.name`, unless the environment names one.

    Raises:
        ConfigError: the extra `tracing` is missing, or the variable holds no URL, or one with a
            password, which logs of errors would repeat.
    """
    endpoint = os.environ.get(_COLLECTOR, "").strip()
    if not endpoint:
        yield
        return
    if not re.fullmatch(r"https?://[^/@\s]+(/[^@\s]*)?", endpoint):
        raise ConfigError(
            f"{_COLLECTOR} must be http://HOST:PORT or https://…; keys of the collector belong "
            "in OTEL_EXPORTER_OTLP_HEADERS."
        )
    try:
        from trustscale_server.platform.telemetry import otel  # noqa: PLC0415 - only where traces are wanted
    except ImportError as error:
        raise ConfigError(
            "Traces need the extra `tracing`: pip install 'trustscale[tracing]'."
        ) from error
    with otel.collected(endpoint, service) as tracer, recording(tracer):
        yield
