"""Options that several commands take, and the output of their findings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeVar

import typer

Found = TypeVar("Found")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Server = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="Run it on this server, with the key in TRUSTSCALE_KEY."
    ),
]

Activate = Annotated[bool, typer.Option(help="Activate it at once.")]
Only = Annotated[bool, typer.Option("--only", help="Make it the only active one of its upscaler.")]
Force = Annotated[
    bool, typer.Option("--force", help="Activate it even if it serves worse than the active one.")
]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Make the calls without asking.")]

_FIELD: Final = re.compile(
    r"\b(mask|stretch|bands|page|background|fit|to|scale|guarantee|format|quality|metadata)=(?=[\w#])"
)


def spoken(text: str) -> str:
    """A sentence of the service, which names fields of a request, with the options of a command."""
    return _FIELD.sub(lambda found: f"--{found[1]} ", text)


Stretch = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH|pA,pB",
        help="Of data: the values, or percentiles, that become darkest and lightest of 16 bits.",
    ),
]


@dataclass
class _Guarantee:
    guarantee: Annotated[
        str | None,
        typer.Option(
            help="What is promised: expectation, high_probability, probability or post_hoc."
        ),
    ] = None
    delta: Annotated[
        float | None,
        typer.Option(
            help="δ: the promise holds for the calibration at hand with probability 1 − δ "
            "(high_probability: 0.1 by default; probability)."
        ),
    ] = None
    tolerance: Annotated[
        float | None, typer.Option(help="τ: the error that few pictures exceed (probability).")
    ] = None
    level: Annotated[
        float | None,
        typer.Option(help="β: the share of spots that may exceed τ; default: 0.1 (probability)."),
    ] = None
    menu: Annotated[
        list[float] | None,
        typer.Option(help="An α to choose from after looking; repeatable (post_hoc)."),
    ] = None
    between: Annotated[
        tuple[float, float] | None,
        typer.Option(help="The smallest and largest α to choose from after looking (post_hoc)."),
    ] = None


@dataclass
class _Degradation:
    grey: Annotated[bool, typer.Option(help="Degradation: remove the colour.")] = False
    input_blur: Annotated[float, typer.Option(help="Degradation: blur in pixels of X.")] = 0.0
    noise: Annotated[float, typer.Option(help="Degradation: noise in levels of 255.")] = 0.0
    jpeg: Annotated[int | None, typer.Option(help="Degradation: JPEG quality.")] = None
    inpaint: Annotated[
        float | None, typer.Option(help="Degradation: holes in this share of the pixels.")
    ] = None
    inpaint_shape: Annotated[str, typer.Option(help="rectangles or strokes.")] = "rectangles"
    inpaint_color: Annotated[str, typer.Option(help="Colour of the holes.")] = "#ff00ff"


Group = Mapping[str, Any]
"""Options by name, which `with_options` puts in place of a parameter."""

NOTHING: Final[Group] = MappingProxyType({})

GUARANTEE: Final = (_Guarantee, tuple(field.name for field in fields(_Guarantee)))
DEGRADATION: Final = (_Degradation, tuple(field.name for field in fields(_Degradation)))

_KIND_OF: Final = {
    "menu": "post_hoc",
    "between": "post_hoc",
    "tolerance": "probability",
    "level": "probability",
    "delta": "high_probability",
}
"""The guarantee that an option implies; of several the first."""


def guarantee_in(options: Group) -> dict[str, Any] | None:
    """The guarantee that the options of a command name, unvalidated; None: none."""
    given = {name: options[name] for name in _KIND_OF if options[name] not in (None, [], ())}
    kind = options["guarantee"] or next((_KIND_OF[name] for name in given), None)
    return None if kind is None else {"kind": kind, **given}


def degradation_in(options: Group) -> dict[str, Any]:
    """The steps of a degradation that the options of a command name, unvalidated."""
    share, shape, color = (options[f"inpaint{part}"] for part in ("", "_shape", "_color"))
    holes = None if share is None else {"share": share, "shape": shape, "color": color.lower()}
    steps = {"grey": options["grey"], "blur": options["input_blur"], "noise": options["noise"]}
    files = {"jpeg": options["jpeg"], "inpaint": holes}
    return {name: value for name, value in steps.items() if value} | {
        name: value for name, value in files.items() if value is not None
    }


def output(found: Found, write: Callable[[Found], str], *, as_json: bool) -> None:
    """Print what was found as JSON or as text, unless the text is empty."""
    text = json.dumps(found, indent=2) if as_json else write(found)
    if text:
        typer.echo(text)


def lines(
    write: Callable[[dict[str, Any]], str], nothing: str = ""
) -> Callable[[list[dict[str, Any]]], str]:
    """Formats a list: a line for each row, or `nothing`."""
    return lambda rows: "\n".join(map(write, rows)) or nothing
