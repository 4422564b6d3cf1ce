"""OpenTelemetry traces of requests and jobs, off by default.

Spans come from a private tracer, which libraries that trace themselves do not use. When off, they
do nothing, and the SDK (extra `tracing`) is not imported. Spans hold numbers, names of upscalers
and ids of calibrations; never keys, images, file names, or ids of results and jobs (these grant
access).
A trace continues in the job of a request (`context`) and in our workers (`headers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.errors import ConfigError

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
    """A span; an error that leaves its `with` marks it as failed.

    `parent` has W3C Trace Context headers, and none begin a new trace; None: the enclosing span.
    """
    if _tracer is None:
        yield INVALID_SPAN
        return
    around = None if parent is None else _CONTEXT.extract(parent, Context())
    with _tracer.start_as_current_span(
        name,
        around,
        SpanKind[kind.upper()],
        dict(attributes or {}),
        record_exception=False,  # texts of errors may name files
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            fail(current, type(error).__name__)
            raise


def fail(span: Span, kind: str) -> None:
    """Mark a span as failed; `kind` has few values."""
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def headers() -> dict[str, str]:
    """W3C Trace Context headers for another process; empty outside spans."""
    carrier: dict[str, str] = {}
    _CONTEXT.inject(carrier)
    return carrier


def context() -> str | None:
    """The context as a value to store, for `resumed`; None outside spans."""
    return headers().get("traceparent")


def resumed(stored: str | None) -> dict[str, str]:
    """The `parent` of a span from a stored context; None: a new trace."""
    return {} if stored is None else {"traceparent": stored}


def ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the present span, hexadecimal, for logs; empty outside spans."""
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
def exporting(endpoint: str | None, service: str) -> Iterator[None]:
    """Send the spans of this process to a collector inside the `with`.

    Args:
        endpoint: base URL of OTLP over HTTP, such as `http://collector:4318`; None: tracing is off.
        service: `service.name`, unless the environment names one.

    Raises ConfigError without the extra `tracing`.
    """
    if endpoint is None:
        yield
        return
    try:
        from app.telemetry import otel  # noqa: PLC0415 - only where traces are wanted
    except ImportError as error:
        raise ConfigError(
            "Traces need the extra `tracing`: pip install 'trustscale[tracing]'."
        ) from error
    with otel.collected(endpoint, service) as tracer, recording(tracer):
        yield
