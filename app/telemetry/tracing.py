"""Traces of requests and jobs, for operators who run a collector of OpenTelemetry.

Off, which is the default, a span is one shared object that does nothing, and the SDK (the extra
`tracing`) is not imported. On, `app/telemetry/otel.py` records them and sends them away.

Spans hold numbers, names of upscalers and ids of calibrations; never keys, images, names of files,
or ids of results and jobs, which are all that one needs to read them. A trace goes on in the job
that a request has left, because the job keeps the context (`context`), and in our own workers
(`headers`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Literal, Protocol, Self

Attribute = str | int | float | bool
Kind = Literal["internal", "server", "client", "producer", "consumer"]


class Span(Protocol):
    """A stretch of work, as long as its `with`; spans begun inside it are its children."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Say more about the work."""

    def rename(self, name: str) -> None:
        """Give it the name that was not known when it began."""

    def fail(self, kind: str) -> None:
        """Mark it as failed, for a reason of few values."""


class _NoSpan:
    """Stands for every span while tracing is off."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        pass

    def rename(self, name: str) -> None:
        pass

    def fail(self, kind: str) -> None:
        pass


class Recorder(Protocol):
    """What makes real spans: the SDK in this process (`app/telemetry/otel.py`)."""

    def span(
        self,
        name: str,
        attributes: Mapping[str, Attribute] | None,
        kind: Kind,
        parent: Mapping[str, str] | None,
    ) -> Span: ...

    def headers(self) -> dict[str, str]: ...

    def ids(self) -> dict[str, str]: ...


_NO_SPAN: Final = _NoSpan()
_recorder: Recorder | None = None


def span(
    name: str,
    attributes: Mapping[str, Attribute] | None = None,
    *,
    kind: Kind = "internal",
    parent: Mapping[str, str] | None = None,
) -> Span:
    """A span; an error that leaves its `with` marks it as failed.

    Args:
        name: of few values.
        attributes: what is known already.
        kind: which side of a call or message it is.
        parent: headers of W3C Trace Context that it continues, if they hold one; None: the span
            around this one.
    """
    return _NO_SPAN if _recorder is None else _recorder.span(name, attributes, kind, parent)


def untraced() -> Span:
    """A span that is never recorded."""
    return _NO_SPAN


def headers() -> dict[str, str]:
    """W3C Trace Context headers that let another process continue; empty outside of spans."""
    return {} if _recorder is None else _recorder.headers()


def context() -> str | None:
    """The same as a value to be stored, for `resumed`; None outside of spans."""
    return headers().get("traceparent")


def resumed(stored: str | None) -> dict[str, str]:
    """The `parent` of a span that continues a stored context, or begins a trace without one."""
    return {} if stored is None else {"traceparent": stored}


def ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the present span in hexadecimal, for logs; empty outside."""
    return {} if _recorder is None else _recorder.ids()


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Record the spans of this process inside the `with`."""
    global _recorder  # noqa: PLW0603 - tracing is a property of the process, like logging
    before, _recorder = _recorder, recorder
    try:
        yield
    finally:
        _recorder = before
