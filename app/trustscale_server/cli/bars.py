"""Progress on standard error, and the message of an interrupted command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

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

from trustscale_server.platform.errors import ConfigError, duration

LINE_EVERY_S = 60.0
"""Between two lines of progress, without a terminal."""


@dataclass(slots=True)
class Interruption:
    """The message after Ctrl-C: what happens to the work and how to continue."""

    text: str = ""


@contextmanager
def interruptible(text: str = "") -> Iterator[Interruption]:
    """End with this text and exit code 130 on Ctrl-C."""
    interruption = Interruption(text)
    try:
        yield interruption
    except KeyboardInterrupt:
        typer.echo(interruption.text, err=True)
        raise typer.Exit(130) from None


class Bars:
    """One progress bar per activity; a total of None is not known yet.

    Without a terminal: lines.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(
        self,
        activity: str,
        done: float,
        total: int | None,
        *,
        is_bytes: bool = False,
        unit: str = "",
    ) -> None:
        as_text = decimal if is_bytes else "{:,.0f}".format
        amount = f"{as_text(int(done))} of {'?' if total is None else as_text(total)} {unit}"
        amount = amount.rstrip()
        if activity not in self._tasks:
            self._tasks[activity] = self._progress.add_task(activity, total=total, amount=amount)
        self._progress.update(self._tasks[activity], completed=done, total=total, amount=amount)

    def print_lines(self) -> None:
        """Print a line for what is not done, with the time that it has taken and that is left."""
        for task in self._progress.tasks:
            if not task.finished:
                seconds = task.elapsed or 0
                left_s = seconds * ((task.total or 0) / task.completed - 1) if task.completed else 0
                left = f", about {duration(left_s)} left" if left_s > 0 else ""
                amount = task.fields["amount"]
                self.line(f"{task.description}: {amount} after {duration(seconds)}{left}")

    def line(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def confirmed(self, question: str) -> bool:
        """Return the answer of the user. Raises ConfigError: nobody can answer."""
        self._progress.stop()
        try:
            return typer.confirm(question, err=True)
        except typer.Abort:
            raise ConfigError(f"{question} Nobody can answer here; give --yes.") from None
        finally:
            self._progress.start()


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Show progress on standard error: bars on a terminal, else a line a minute."""
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
        bars, ended = Bars(progress), Event()

        def print_each_minute() -> None:
            while not ended.wait(LINE_EVERY_S):
                bars.print_lines()

        if progress.disable:
            Thread(target=print_each_minute, daemon=True).start()
        try:
            yield bars
        finally:
            ended.set()
