"""The generated pages of docs/: settings, commands and errors.

`make reference` writes them; a test compares them with what these functions return.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trustscale_server.bootstrap.settings import Settings
from trustscale_server.cli.main import app
from trustscale_server.platform.problems import PROBLEMS
from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.registry import UpscalerConfig
from trustscale_server.upscalers.remote.predictions import CogConfig, ReplicateConfig

DOCS: Final = Path(__file__).parents[2] / "docs"

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


PAGES: Final[dict[str, Callable[[], str]]] = {
    "settings.md": settings,
    "commands.md": commands,
    "errors.md": errors,
}


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
        (DOCS / page).write_text(make(), "utf-8")
