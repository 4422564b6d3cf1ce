"""What became of the images of one `trustscale upscale`, and what is printed of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import typer

from trustscale_server.cli.output import in_command_words, json_line
from trustscale_server.cli.report import details, first_of, line, skipped_in_words
from trustscale_server.cli.review import ACCEPTED, LOOK, Rule, promises
from trustscale_server.cli.service import UNREACHABLE
from trustscale_server.cli.sources import InputFile
from trustscale_server.platform.errors import TrustscaleError

# Every other image would fail in the same way.
_FATAL_PROBLEMS: Final = {
    UNREACHABLE,
    "/problems/no-calibration",
    "/problems/calibration-mismatch",
    "/problems/upscaler-unavailable",
    "/problems/unauthorized",
    "/problems/forbidden",
}


@dataclass(slots=True)
class Outcomes:
    """Collects the outcome of each image by its name, and prints it.

    done: the records of answers, also of those that were there before (`earlier`). accepted: how
    many of them need no look. failed: why. stopped: why the remaining images were not made. left:
    how many these are.
    """

    as_json: bool
    verbose: bool = False
    done: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    earlier: int = 0
    accepted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    left: int = 0
    _promises: Counter[str] = field(default_factory=Counter)
    _warnings: dict[str, list[str]] = field(default_factory=dict)  # whose pictures have each

    def add(self, source: InputFile, record: Mapping[str, Any]) -> None:
        """Count and print an answer that was made now."""
        self._collect(source, record)
        self.left -= 1

    def keep(self, source: InputFile, record: Mapping[str, Any]) -> None:
        """Count and print an answer that was there."""
        self.earlier += 1
        self._collect(source, record, " (kept)")

    def fail(self, source: InputFile, error: TrustscaleError | OSError) -> None:
        """Count an image that failed; some errors stop the run."""
        if isinstance(error, OSError):
            self.failed[str(source)] = error.strerror or str(error)
        elif error.members.get("type") in _FATAL_PROBLEMS:
            self.stopped = in_command_words(error.detail)
            return
        else:
            self.failed[str(source)] = in_command_words(error.detail)
        self.left -= 1

    def text(self, source: InputFile, record: Mapping[str, Any], note: str = "") -> str:
        """Return what is printed of a picture at once; `print_summary` says what holds for many."""
        if self.verbose:
            return details(source, record, note)
        for warning in map(in_command_words, record["warnings"]):
            self._warnings.setdefault(warning, []).append(str(source))
        if record["mask"] == "trust" and record["guarantee"]["promised"]:
            promise, is_read = record["guarantee"], record.get("words") is not None
            # A promise about words holds for letters like those that were calibrated on.
            origin = f" Such pictures: {promise['calibrated_on']}" if is_read else ""
            if (added := record.get("added")) and added["promise"]:
                self._promises[added["promise"]] += 1
            self._promises[promise["plain"] + origin] += 1
        return line(source, record, note)

    def document(self) -> dict[str, Any]:
        """Return each image's outcome, for the file of a run."""
        return {
            "done": {
                name: {
                    "promised": bool((record.get("guarantee") or {}).get("promised")),
                    "trusted_fraction": record.get("trusted_fraction"),
                    "warnings": record["warnings"],
                }
                for name, record in self.done.items()
            },
            "failed": self.failed,
            "left": self.left,
        }

    def print_summary(self, rule: Rule | None, skipped: Sequence[Path], *, many: bool) -> None:
        """Print promises, warnings, errors and counts.

        rule: by which answers were sorted. skipped: files that are no images. many: whether there
        was more than one image.
        """
        if rule is not None:
            self._promises.update(promises(self.done.values(), rule))
        if not self.as_json:
            for text, count in self._promises.items():
                typer.echo(f"{text} ({count} pictures)" if count > 1 else text, err=True)
            for text, names in self._warnings.items():
                whose = f" ({first_of(sorted(names))})" if many else ""
                typer.echo(f"warning: {text}{whose}", err=True)
        for name, detail in self.failed.items():
            typer.echo(f"trustscale: {name}: {detail}", err=True)
        if self.stopped:
            rest = f" {self.left} images are not done; run the same command again to continue."
            typer.echo(f"trustscale: {self.stopped}{rest if many else ''}", err=True)
        if many:
            answered = len(self.done) - self.earlier
            counts = f"{answered} done, {self.earlier} kept, {len(self.failed)} failed"
            if rule is not None:
                counts += (
                    f"; {self.accepted} {ACCEPTED}, {len(self.done) - self.accepted} to {LOOK}"
                )
            typer.echo(counts + skipped_in_words(skipped), err=True)

    def _collect(self, source: InputFile, record: Mapping[str, Any], note: str = "") -> None:
        self.done[str(source)] = record
        if self.as_json:
            json_line(record)
        else:
            typer.echo(self.text(source, record, note))
