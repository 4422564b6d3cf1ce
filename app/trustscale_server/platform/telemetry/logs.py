"""Structured logs: one JSON object (or one readable line) per event, with the request id.

Tracebacks have no values of variables, which include keys and images, and ids that grant access are
cut. Every event is bounded, since writing it blocks everything else.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Final, Literal

import structlog

from trustscale_server.platform.telemetry import traces

_MAX_VALUE: Final = 4_000  # characters
_GRANTING_ID: Final = re.compile(r"\b((?:res|job)-[A-Za-z0-9_-]{6})[A-Za-z0-9_-]{10,}")


def log_action(action: str, actor: str, **facts: object) -> None:
    """Log what an admin did, once it is done."""
    structlog.get_logger(__name__).info("admin_action", action=action, actor=actor, **facts)


def _error_report(exc_info: structlog.typing.ExcInfo) -> str:
    """The message and last frames of an error, and those of its first causes after it.

    The standard library's formatters would read all frames, a million after a recursion.
    """
    reports = []
    for error in islice(_causes(exc_info[1]), 5):
        frames = "".join(traceback.format_tb(error.__traceback__, limit=-20))
        reports.append(f"Traceback (most recent call last):\n{frames}{_message(error)}")
    return _cut("\ncaused by:\n".join(reports), 16_000)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, the errors of a group, and their causes and contexts; none twice."""
    waiting, seen = [error], set[int]()
    while waiting:
        error = waiting.pop(0)
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            waiting.append(cause)


def _message(error: BaseException) -> str:
    try:
        return f"{type(error).__qualname__}: {_cut(str(error), _MAX_VALUE)}"
    except Exception:  # noqa: BLE001 - foreign code, by which the log must not fail
        return type(error).__qualname__


def _cut(text: str, max_length: int) -> str:
    if len(text) <= max_length:
        return text
    half = max_length // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} letters left out … {text[-half:]}"


def _bounded(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for name, value in event.items():
        if isinstance(value, bool | int | float | None) or name == "exception":
            continue
        text = value if isinstance(value, str) else repr(value)
        if len(text) > _MAX_VALUE:
            event[name] = _cut(text, _MAX_VALUE)
    return event


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Cuts ids of results and jobs, which grant access, to a start that can be searched for."""

    def format(self, record: logging.LogRecord) -> str:
        return _GRANTING_ID.sub(r"\1*", super().format(record))


def _trace(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.update(traces.ids())
    return event


class _EqualEventsLimit(logging.Filter):
    """Lets `count` equal events of a logger pass in `seconds`: each connection may cause one."""

    def __init__(self, count: int, *, seconds: float) -> None:
        super().__init__()
        self._count, self._seconds = count, seconds
        self._since = -math.inf
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.created - self._since > self._seconds:
            self._since = record.created
            self._seen.clear()
        # Events count as equal by their first words: an address or a stranger's text may follow.
        kind = str(record.msg)[:40]
        self._seen[kind] += 1
        if self._seen[kind] == self._count:
            record.msg = f"{record.msg} (further ones are not logged for up to a minute)"
        return self._seen[kind] <= self._count


def configure_logs(level: str, style: Literal["auto", "json", "console"] = "auto") -> None:
    """Log our events and those of libraries to standard error.

    `auto` writes JSON unless standard error is a terminal.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _trace,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json" or (style == "auto" and not sys.stderr.isatty())
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # Errors are text already; other formatters warn of that before structlog 26.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(_error_report),
                _bounded,
                render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Pillow's remarks on a client's file do not concern operators, and may be endless.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for caused_by_strangers in ("asyncio", "uvicorn.error"):
        logging.getLogger(caused_by_strangers).filters = [_EqualEventsLimit(10, seconds=60.0)]
    # docket logs a traceback per poll while Redis is away; our queue logs one line.
    logging.getLogger("docket").setLevel(logging.CRITICAL)
