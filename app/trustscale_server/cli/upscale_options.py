"""The options of `trustscale upscale`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trustscale_server.cli import options
from trustscale_server.cli.review import Rule
from trustscale_server.serving.request import UpscaleOptions

if TYPE_CHECKING:
    from trustscale_server.cli.answers import Extra


RequestOptions: Final = options.from_model(
    UpscaleOptions,
    [name for name in UpscaleOptions.model_fields if name != "batch"],  # --adapt makes one
    without_promise=Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            help="Make calls that have a price also where nothing will be promised.",
        ),
    ],
    believed=Annotated[
        bool,
        typer.Option(
            "--believed", help="Also write NAME.believed.png, a plain enlargement outside the mask."
        ),
    ],
    safe=Annotated[
        bool,
        typer.Option(
            "--safe",
            help="Also write NAME.safe.png, whose detail is in proportion to how real it probably "
            "is, and NAME.added.png, where detail is doubtful (black) or holds up (white).",
        ),
    ],
    card=Annotated[
        bool,
        typer.Option(
            "--card",
            help="Also write NAME.card.png, the picture with a caption that says what can be "
            "relied on.",
        ),
    ],
    to=Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS", help="Reduce the pictures to this longest side: 3000, 4k or 8k."
        ),
    ],
    print_=Annotated[
        str | None,
        typer.Option(
            "--print", metavar="PAPER@DPI", help="Reduce the pictures to a print, such as a3@300."
        ),
    ],
)
"""What is asked of the service: the fields of its requests, and `print_`, another word for `to`."""


@dataclass
class AnswerOptions:
    """Which answers are written, and where."""

    out: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder for the answers; default: this folder. - prints the picture alone.",
        ),
    ] = None
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Also look into subfolders.")
    ] = False
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite/--no-overwrite",
            help="Replace answers to other requests; finished answers to this request stay.",
        ),
    ] = False
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1, help="Images upscaled at the same time; default: max_in_flight, 4 on a server."
        ),
    ] = None
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="The pictures belong together: where pictures like them lose more, their masks "
            "are smaller. Needs at least 6.",
        ),
    ] = False
    trust: Annotated[
        bool, typer.Option("--trust", help="Also write NAME.trust.png, the masks of every α.")
    ] = False
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay", help="Also write NAME.overlay.png, with untrusted parts hatched."
        ),
    ] = False

    @property
    def extras(self) -> frozenset[Extra]:
        """What is written besides picture and mask."""
        extras: dict[Extra, bool] = {"trust": self.trust, "overlay": self.overlay}
        return frozenset(name for name, is_written in extras.items() if is_written)


@dataclass
class Elsewhere:
    """What was made by a program that has no address."""

    enlarged: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|FOLDER",
            exists=True,
            help="What somebody made of the image, or a folder with a file of each image's name, "
            "for an upscaler of the kind supplied.",
        ),
    ] = None


@dataclass
class Sorting:
    """Whether the answers are sorted by who must look."""

    review: Annotated[
        bool,
        typer.Option(
            "--review",
            help="Sort the answers into accepted/, which need no look, and review/.",
        ),
    ] = False
    review_batch: Annotated[
        bool,
        typer.Option(
            "--review-batch",
            help="Sort all answers together; each must show another scene.",
        ),
    ] = False

    @property
    def rule(self) -> Rule | None:
        """How they are sorted. Raises BadParameter."""
        if self.review and self.review_batch:
            raise typer.BadParameter("--review and --review-batch exclude each other.")
        return "batch" if self.review_batch else "each" if self.review else None


@dataclass
class Output(options.TargetOptions):
    """What is printed, and who is asked."""

    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print all that is known about each picture.")
    ] = False
