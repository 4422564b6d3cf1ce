"""Running without a server: the same stores, upscalers and code that the gateway uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.assembly import Parts, open_parts
from app.logs import configure_logs
from app.settings import load_settings


@asynccontextmanager
async def local() -> AsyncIterator[Parts]:
    """Open everything that the settings name; shipped calibrations are installed."""
    settings = load_settings()
    configure_logs("warning", "console")
    async with AsyncExitStack() as stack:
        # Jobs are not run here; a queue that is shared with servers need not be reachable.
        # What is tried by hand is no request of the service: the monitor does not count it.
        yield await open_parts(
            settings.model_copy(update={"queue": "memory://"}), stack, monitored=False
        )


def progress_bar(*, is_bytes: bool = False) -> Progress:
    """A progress bar on standard error; nothing is drawn when it is not a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if is_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
