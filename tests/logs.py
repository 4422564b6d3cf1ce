"""The log of this process as an operator's would be, for as long as a `with`."""

import logging
from contextlib import contextmanager

import structlog

from trustscale_server.platform.telemetry.logs import configure_logs


@contextmanager
def logging_as(style):
    root = logging.getLogger()
    before = root.handlers, root.level, structlog.get_config()
    try:
        configure_logs("info", style)
        structlog.configure(cache_logger_on_first_use=False)  # loggers of modules outlive a test
        yield
    finally:
        root.handlers, root.level = before[:2]
        structlog.configure(**before[2])
