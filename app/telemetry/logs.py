"""Structured logs: one JSON object (or one readable line) per event, with the request id."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

from app.telemetry import tracing


def _trace(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Which span an event belongs to, while requests and jobs are traced."""
    event.update(tracing.ids())
    return event


def configure_logs(level: str, style: Literal["json", "console"]) -> None:
    """Send our events and those of libraries to standard error in one format."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _trace,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if style == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # docket logs a traceback per poll while Redis is away; our own queue says it in a line.
    logging.getLogger("docket").setLevel(logging.CRITICAL)
