"""Progress on standard error, and the message of an interrupted command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.errors import ConfigError

_LINE_EVERY_S: Final = 10.0
_INTERRUPTED: Final = 130


@dataclass(slots=True)
class Interruption:
    """The message after Ctrl-C: what happens to the work, and how to continue."""

    text: str = ""


@contextmanager
def interruptible(text: str = "") -> Iterator[Interruption]:
    """On Ctrl-C, end with this text and exit code 130."""
    interruption = Interruption(text)
    try:
        yield interruption
    except KeyboardInterrupt:
        typer.echo(interruption.text, err=True)
        raise typer.Exit(_INTERRUPTED) from None


class Bars:
    """One progress bar per activity; total None: unknown yet. Without a terminal: lines."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._tasks: dict[str, TaskID] = {}
        self._last_line = clock()

    def __call__(
        self, what: str, done: float, total: int | None, *, is_bytes: bool = False
    ) -> None:
        shown = decimal if is_bytes else "{:,.0f}".format
        amount = f"{shown(int(done))} of {'?' if total is None else shown(total)}"
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total, amount=amount)
        self._progress.update(self._tasks[what], completed=done, total=total, amount=amount)
        if self._progress.disable and self._clock() - self._last_line >= _LINE_EVERY_S:
            self._last_line = self._clock()
            self.line(f"{what}: {amount}")

    def line(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def confirmed(self, question: str) -> bool:
        """The answer of the user. Raises ConfigError: nobody can answer."""
        self._progress.stop()
        try:
            return typer.confirm(question, err=True)
        except typer.Abort:
            raise ConfigError(f"{question} Nobody answers: give --yes.") from None
        finally:
            self._progress.start()


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Progress on standard error: bars on a terminal, else a line every ten seconds."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        yield Bars(progress)
