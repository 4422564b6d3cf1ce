"""Where traces go: nowhere, or to a collector of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import ConfigError
from app.telemetry.tracing import recording


@contextmanager
def exporting(endpoint: str | None, service: str) -> Iterator[None]:
    """Send the spans of this process to a collector inside the `with`; nothing for None.

    Args:
        endpoint: base URL of OTLP over HTTP, such as `http://collector:4318`.
        service: `service.name`, unless the environment names one.

    Raises:
        ConfigError: the extra `tracing` is not installed.
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
    with otel.collected(endpoint, service) as recorder, recording(recorder):
        yield
