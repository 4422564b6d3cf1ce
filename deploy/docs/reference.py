"""What is made from the program: pages of docs/, and the client library's types of options.

`make reference` writes them; a test compares them with what these functions return.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trustscale_server.bootstrap.settings import Settings
from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.cli.main import app
from trustscale_server.http.routes.calibrate import DeriveIn
from trustscale_server.http.routes.calibrations import ActivateIn
from trustscale_server.http.upscale_form import UpscaleForm
from trustscale_server.platform.problems import PROBLEMS
from trustscale_server.serving.request import UpscaleOptions
from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.registry import UpscalerConfig
from trustscale_server.upscalers.remote.predictions import CogConfig, ReplicateConfig

ROOT: Final = Path(__file__).parents[2]

_PYTHON: Final = {
    "string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None",
}  # fmt: skip
_EVERYWHERE: Final = {"`--server`", "`--json`"}  # explained where they occur first


def settings() -> str:
    """Every setting of the service, and of each kind of upscaler."""
    kinds = get_args(get_args(UpscalerConfig)[0])
    embedded, remote = kinds[0], kinds[1:]
    lines = [
        "# Settings",
        "",
        (
            "In `trustscale.toml` (or the file that `TRUSTSCALE_CONFIG` names) and as environment "
            "variables with the prefix `TRUSTSCALE_`, which win. Lists are separated by commas "
            'in the environment. In the file `"${NAME}"` stands for an environment variable; keys '
            "may only be given that way. An empty default is none. `trustscale config check` "
            "prints the effective values and names every mistake."
        ),
        "",
        *_fields(_rows(Settings)),
        "",
        "## Upscalers",
        "",
        "Entries of `[[upscalers]]`; [upscalers](upscalers.md) says what each kind is for.",
        "",
        *_fields(shared := _common(kinds)),
        "",
        (
            "All kinds but `embedded` and `supplied` also have these (`worker` has no `url`, "
            "`scale`, `resize_mode`, `mask_color` and `mask_field`; `supplied` has `scale`):"
        ),
        "",
        *_fields(remote_rows := [row for row in _rows(OneAddress) if row not in shared]),
    ]
    shared += remote_rows
    predictions = [row for row in _common((CogConfig, ReplicateConfig)) if row not in shared]
    lines += ["", "### `cog` and `replicate`", "", *_fields(predictions)]
    shared += predictions
    for kind in (embedded, *remote):
        (name,) = get_args(kind.model_fields["kind"].annotation)
        rows = [row for row in _rows(kind) if row not in shared]
        others = {_without_default(row): row for row in shared}
        own = [row for row in rows if _without_default(row) not in others]
        if rows:
            lines += ["", f"### `{name}`", *_other_defaults(row for row in rows if row not in own)]
        if own:
            lines += ["", *_fields(own)]
    return _page(lines)


def commands() -> str:
    """Every command with its arguments and options; what it shares with earlier ones, by name."""
    lines = [
        "# All commands",
        "",
        (
            "[How they are used](command-line.md). *Also* lists options that a command above "
            "explains, except `--server` and `--json`, which most commands have."
        ),
    ]
    explained: set[tuple[str, str]] = set()
    for name, command in all_commands():
        parameters = [*filter(None, map(_parameter, command.params))]
        if " " not in name or (hasattr(command, "list_commands") and not parameters):
            continue  # the program itself, and groups, which do nothing
        first, *_ = (command.help or "").split("\n\n")
        own = [row for row in parameters if row not in explained]
        also = [
            names
            for names, text in parameters
            if (names, text) in explained and names not in _EVERYWHERE
        ]
        explained.update(own)
        lines += ["", f"## `{name}`", "", " ".join(first.split())]
        lines += ["", *("- {}: {}".format(*row) for row in own)] if parameters else []
        lines += [f"- Also: {', '.join(also)}."] if also else []
    return _page(lines)


def errors() -> str:
    """Every type of problem, in a sentence."""
    lines = [
        "# Errors",
        "",
        (
            "An error is a problem document (RFC 9457) over HTTP, one line in the command line. "
            "The page of its `type`, under `/problems/` of the service, says what to do."
        ),
        "",
    ]
    for slug, kind in PROBLEMS.items():
        first, *_ = re.split(r"(?<=\.) ", kind.explanation)
        lines.append(f"- `{slug}` ({kind.status}): {first}")
    return _page(lines)


def http() -> str:
    """The page of the HTTP API, where the table of the form's fields is made."""
    page = (ROOT / "docs/http.md").read_text("utf-8")
    before, head, rest = page.partition("| field of the form | |\n|---|---|\n")
    rows = []
    properties = UpscaleForm.model_json_schema()["properties"]
    for name in sorted(properties, key=UpscaleOptions.model_fields.__contains__):
        schema = properties[name]
        words = [f"`{word}`" for form in _forms(schema) for word in form.get("enum", ())]
        choices = f" One of {', '.join(words)}." if words else ""
        more = f" [More]({_MORE[name]})." if name in _MORE else ""
        rows.append(f"| `{name}` | {_cell(schema['description'])}{choices}{more} |")
    _, end, after = rest.partition("\n\n")
    return "".join([before, head, "\n".join(rows), end, after])


def client() -> str:
    """The module of the client library with the types of options."""
    upscaling = "Fields of `POST /v1/upscale`; None is the service's default."
    job = "Fields of a job's request: also who is notified, and a calibration that is not active."
    config = "Fields of the `config` of `POST /v1/admin/calibrations`."
    activation = "How a calibration is activated."
    derivation = "How a derived calibration differs from its parent."
    return _page(
        [
            '"""The fields of requests as types, which `make reference` writes."""',
            "",
            "from __future__ import annotations",
            "",
            "from collections.abc import Mapping, Sequence",
            "from typing import Any, Literal, TypedDict",
            *_typed("UpscaleOptions(TypedDict", upscaling, UpscaleOptions),
            *_typed("SubmitOptions(UpscaleOptions", job, UpscaleForm, ("webhook", "calibration")),
            *_typed("CalibrationOptions(TypedDict", config, CalibrationConfig),
            *_typed("ActivateOptions(TypedDict", activation, ActivateIn),
            *_typed("DeriveOptions(TypedDict", derivation, DeriveIn),
        ]
    )


PAGES: Final[dict[str, Callable[[], str]]] = {
    "docs/settings.md": settings,
    "docs/commands.md": commands,
    "docs/errors.md": errors,
    "docs/http.md": http,
    "client/trustscale/_fields.py": client,
}

_MORE: Final = {
    "image_url": "settings.md",
    "upload": "#post-v1uploads",
    "enlarged": "check.md#give-it-a-mask",
    "upscaler": "upscalers.md#embedded",
    "guarantee": "promise.md#look-first-then-choose",
    "without_promise": "costs.md#a-paid-model",
    "words": "guarantees.md#text-that-is-guessed",
    "faces": "promise.md#faces-and-letters",
    "believed": "#only-what-can-be-believed",
    "card": "marks.md#the-card",
    "seed": "how-it-works.md#what-a-seed-does",
    "format": "data.md#files",
    "metadata": "faq.md#what-happens-to-my-file",
    "stretch": "data.md",
    "webhook": "http-admin.md#webhooks",
    "group": "guarantees.md#groups",
    "batch": "promise.md#a-folder-of-one-kind",
}
"""Where the page of the HTTP API says more about a field of the form."""


def _forms(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The forms that a value may have, as JSON schemas."""
    return [form for one in schema.get("anyOf", [schema]) for form in one.get("oneOf", [one])]


def _typed(
    name: str, about: str, model: type[BaseModel], fields: Iterable[str] = ()
) -> Iterator[str]:
    """The class of this name with the types of these fields of a model, or of all."""
    properties = model.model_json_schema()["properties"]
    yield from ("", "", f"class {name}, total=False):", f'    """{about}"""', "")
    yield from (f"    {field}: {_annotation(properties[field])}" for field in fields or properties)


def _annotation(schema: Mapping[str, Any]) -> str:
    """The type that a caller gives a field of a JSON schema."""
    return " | ".join(dict.fromkeys(map(_type, _forms(schema))))


def _type(form: Mapping[str, Any]) -> str:
    if words := form.get("enum"):
        return f"Literal[{', '.join(map(json.dumps, words))}]"
    match form.get("type", "object"):
        case "array":
            return f"Sequence[{_annotation(form['items'])}]"
        case "object":
            return "Mapping[str, Any]"
        case kind:
            return _PYTHON[kind]


def _rows(model: type[BaseModel]) -> list[str]:
    """A row for each field, without discriminators and nested documents."""
    return [
        f"| `{name}` | {_default(field)} | {_cell(_description(model, name))} |"
        for name, field in model.model_fields.items()
        if name != "kind"
    ]


def _description(model: type[BaseModel], name: str) -> str:
    """The description of a field, inherited where a kind only changes the default."""
    fields = [base.model_fields.get(name) for base in model.__mro__ if issubclass(base, BaseModel)]
    return next((field.description for field in fields if field and field.description), "")


def _common(models: Sequence[type[BaseModel]]) -> list[str]:
    """The rows that all tables share."""
    first, *others = map(_rows, models)
    return [row for row in first if all(row in other for other in others)]


def _without_default(row: str) -> tuple[str, str]:
    _, name, _, meaning, _ = re.split(r"(?<!\\)\|", row)
    return name, meaning


def _other_defaults(rows: Iterable[str]) -> list[str]:
    """A sentence about the settings that only have another default, if there are any."""
    defaults = [" = ".join(map(str.strip, row.split("|")[1:3])) for row in rows]
    return ["", f"Its own defaults: {', '.join(defaults)}."] if defaults else []


def _fields(rows: Iterable[str]) -> Iterator[str]:
    yield from ("| setting | default | meaning |", "|---|---|---|", *rows)


def _default(field: FieldInfo) -> str:  # noqa: PLR0911 - one return for each kind
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default" in extra:
        return str(extra["default"])
    if field.is_required():
        return "required"
    match field.get_default(call_default_factory=True, validated_data={}):
        case bool(value):
            return "on" if value else "off"
        case int() | float() as value:
            return f"{value:,}".removesuffix(".0").replace(",", " ")
        case str(value) if value:
            return f"`{value}`"
        case dict(value) if value:
            return ", ".join(f"`{key}`: `{one}`" for key, one in value.items())
        case tuple(value) if value:
            return ", ".join(f"`{one}`" for one in value)
        case _:
            return ""


def all_commands(name: str = "trustscale", command: Any = None) -> Iterator[tuple[str, Any]]:
    """Every command with its full name, and every group."""
    command = command or typer.main.get_command(app)
    yield name, command
    if hasattr(command, "list_commands"):
        for word in command.list_commands(None):
            yield from all_commands(f"{name} {word}", command.get_command(None, word))


def _parameter(parameter: Any) -> tuple[str, str] | None:
    """The names of an argument or option, and its meaning; none for what every shell offers."""
    if getattr(parameter, "hidden", False) or "completion" in parameter.name:
        return None
    is_on = parameter.default is True
    options = (parameter.secondary_opts if is_on else parameter.opts) or parameter.opts
    names = ", ".join(f"`{name}`" for name in options if name.startswith("-")) or (
        f"`{parameter.name.upper()}`"
    )
    text = getattr(parameter, "help", None) or ""
    choices, default = getattr(parameter.type, "choices", None), parameter.default
    if choices:
        named = [f"`{one}`{' (default)' * (one == default)}" for one in choices]
        text += f" One of {', '.join(named)}."
    elif default not in (None, False, True, (), []) and not callable(default) and default != "":
        text += f" Default: `{default}`."
    return names, " ".join(text.split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    for page, make in PAGES.items():
        (ROOT / page).write_text(make(), "utf-8")
