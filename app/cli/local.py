"""Running without a server: the same stores, upscalers and code that the gateway uses."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.assembly import Parts, open_parts
from app.serving.auto import AUTO
from app.settings import load_settings
from app.system import usable_cores
from app.telemetry.logs import configure_logs
from app.upscalers.config import EmbeddedConfig
from app.upscalers.registry import UpscalerConfig

# Stands for all upscalers; no name holds a star.
ALL: Final = "*"

_INTERRUPTED: Final = 130

# More at once would take memory rather than save time.
_MOST_AT_ONCE = 8
_LINE_EVERY_S: Final = 10.0


@asynccontextmanager
async def local(upscaler: str | None = ALL, *, many: bool = False) -> AsyncIterator[Parts]:
    """Open everything that the settings name; shipped calibrations are installed.

    `upscaler`: the only one that the command uses, None for the default one, or those that `auto`
    chooses from. The others are not opened, so that nobody waits for them or is warned of them.
    `many`: for work on many images, where samples per hour count and not the wait for the first:
    embedded upscalers whose threads are not set make one sample per core at a time.
    """
    settings = load_settings()
    if upscaler != ALL:
        wanted = {upscaler or settings.default}
        if upscaler == AUTO or (upscaler is None and settings.prefers_auto):
            wanted = set(settings.auto_table.values())
        # Of a name that is not configured the error lists the others.
        chosen = tuple(one for one in settings.upscalers if one.name in wanted)
        settings = settings.model_copy(update={"upscalers": chosen or settings.upscalers})
    if many:
        upscalers = tuple(_at_once(config) for config in settings.upscalers)
        settings = settings.model_copy(update={"upscalers": upscalers})
    configure_logs("warning", "console")
    async with AsyncExitStack() as stack:
        # Jobs are not run here; a queue that is shared with servers need not be reachable.
        # What is tried by hand is no request of the service: the monitor does not count it.
        yield await open_parts(
            settings.model_copy(update={"queue": "memory://"}), stack, monitored=False
        )


def _at_once(config: UpscalerConfig) -> UpscalerConfig:
    chosen = {"threads", "concurrency"} & config.model_fields_set
    if chosen or not isinstance(config, EmbeddedConfig):
        return config
    return config.model_copy(update={"concurrency": min(usable_cores(), _MOST_AT_ONCE)})


@contextmanager
def interruptible(words: str) -> Iterator[None]:
    """Whoever presses Ctrl-C is told how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(words, err=True)
        raise typer.Exit(_INTERRUPTED) from None


class Bars:
    """One progress bar per thing that is done; total None: not known yet.

    Where there is no terminal, a line every ten seconds says how far it is.
    """

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._tasks: dict[str, TaskID] = {}
        self._last_line = clock()

    def __call__(self, what: str, done: float, total: int | None) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)
        if self._progress.disable and self._clock() - self._last_line >= _LINE_EVERY_S:
            self._last_line = self._clock()
            self.tell(f"{what}: {done:,.0f} of {'?' if total is None else f'{total:,}'}")

    def tell(self, words: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(words, soft_wrap=True)


@contextmanager
def progress_bars(*, is_bytes: bool = False) -> Iterator[Bars]:
    """Progress on standard error: bars on a terminal, else a line every ten seconds."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if is_bytes else MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        yield Bars(progress)
