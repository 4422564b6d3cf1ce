"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, Final, Literal

import typer
from pydantic import BaseModel

from trustscale_server.calibrating.intake.grouping import GroupingRule

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

_Yes = Annotated[bool, typer.Option("--yes", "-y", help="Make the calls without asking.")]


_KINDS: Final = {"boolean": bool, "integer": int, "number": float}


def from_model(model: type[BaseModel], names: Iterable[str], **own: Any) -> Any:
    """Make a class for `with_options` with an option for each of these fields of a model.

    The model checks the values.

    Args:
        model: has the types, descriptions and defaults.
        names: the fields, which are flags, numbers, texts or one of some words.
        own: annotations of options, by name: in place of the field's, or of a further option.
    """
    fields: dict[str, tuple[Any, Any]] = {}
    properties = model.model_json_schema()["properties"]
    for name in names:
        schema = properties[name]
        forms = [form for form in schema.get("anyOf", [schema]) if form["type"] != "null"]
        types, words = {form["type"] for form in forms}, forms[0].get("enum")
        # Where several types are possible, a text: the model converts it.
        kind: Any = str if "string" in types else _KINDS[types.pop()]
        kind = Literal[tuple(words)] if words else kind
        flag = [f"--{name.replace('_', '-')}"] if kind is bool else []
        option = typer.Option(*flag, help=schema["description"])
        fields[name] = Annotated[kind | None, option], model.model_fields[name].default
    fields |= {name: (option, fields.get(name, (None, None))[1]) for name, option in own.items()}
    return make_dataclass(model.__name__, [(name, *field) for name, field in fields.items()])


@dataclass
class TargetOptions:
    """Where a command runs, and how it prints what it found."""

    server: Server = None
    as_json: Json = False


@dataclass
class Calls(TargetOptions):
    """Where a command runs that may call an upscaler outside of this program."""

    yes: _Yes = False


@dataclass
class ActivationOptions:
    """Whether a calibration is to serve at once."""

    activate: Activate = False
    force: Force = False


@dataclass
class Naming:
    """Which pairs belong together."""

    group_by: Annotated[
        str | None,
        typer.Option(
            help="Groups with curves of their own: folder, for y/GROUP/NAME, or a column of "
            "DIR/manifest.csv."
        ),
    ] = None
    scene_by: Annotated[
        str | None,
        typer.Option(
            help="What counts once: folder, for y/SCENE/NAME; manifest, for its column scene or "
            "pool_id; or another column."
        ),
    ] = None

    @property
    def rule(self) -> GroupingRule:
        """The rule for the code that finds pairs."""
        return GroupingRule(self.group_by, self.scene_by)


@dataclass
class Promise:
    """The options of a command that name a guarantee."""

    guarantee: Annotated[
        str | None,
        typer.Option(
            help="What is promised: expectation, high_probability, probability or post_hoc."
        ),
    ] = None
    delta: Annotated[
        float | None,
        typer.Option(
            help="δ: the promise holds for this calibration with probability 1 − δ "
            "(high_probability, default: 0.1; probability)."
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
    robust: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Γ: hold it also if some pictures are up to Γ times as frequent as in the "
            "calibration; default: 1.25.",
        ),
    ] = None

    @property
    def named(self) -> dict[str, Any] | None:
        """The guarantee that the options name, not validated; None if they name none."""
        values = {name: getattr(self, name) for name in _KIND_OF}
        values = {name: value for name, value in values.items() if value not in (None, [], ())}
        kind = self.guarantee or next((_KIND_OF[name] for name in values), None)
        if self.robust is not None:
            kind, values = kind or "expectation", {**values, "robust": self.robust}
        return None if kind is None else {"kind": kind, **values}


@dataclass
class Steps:
    """How X is made from Y, in one way."""

    grey: Annotated[bool, typer.Option(help="Degradation: remove the colour.")] = False
    input_blur: Annotated[float, typer.Option(help="Degradation: blur in pixels of X.")] = 0.0
    noise: Annotated[float, typer.Option(help="Degradation: noise in levels of 255.")] = 0.0
    jpeg: Annotated[int | None, typer.Option(help="Degradation: JPEG quality.")] = None
    inpaint: Annotated[
        float | None, typer.Option(help="Degradation: holes in this share of the pixels.")
    ] = None
    inpaint_shape: Annotated[str, typer.Option(help="rectangles or strokes.")] = "rectangles"
    inpaint_color: Annotated[str, typer.Option(help="Colour of the holes.")] = "#ff00ff"

    @property
    def named(self) -> dict[str, Any]:
        """The steps that the options name, not validated."""
        share, shape, color = self.inpaint, self.inpaint_shape, self.inpaint_color.lower()
        holes = None if share is None else {"share": share, "shape": shape, "color": color}
        steps = {"grey": self.grey, "blur": self.input_blur, "noise": self.noise}
        files = {"jpeg": self.jpeg, "inpaint": holes}
        return {name: value for name, value in steps.items() if value} | {
            name: value for name, value in files.items() if value is not None
        }


_KIND_OF: Final = {
    "menu": "post_hoc",
    "between": "post_hoc",
    "tolerance": "probability",
    "level": "probability",
    "delta": "high_probability",
}
"""The guarantee that an option implies; among several options the first decides."""
