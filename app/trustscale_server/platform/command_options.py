"""Options of commands, made of the fields of classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, get_type_hints


def _fields(kind: type) -> dict[str, inspect.Parameter]:
    """The fields of a class as parameters; inherited ones may be annotated in another module."""
    annotations = get_type_hints(kind, include_extras=True)
    return {
        name: parameter.replace(annotation=annotations[name])
        for name, parameter in inspect.signature(kind).parameters.items()
    }


def with_options(
    **groups: type | tuple[type, Iterable[str]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options that the fields of classes annotate.

    groups: by the command's parameter in whose place they are. A class: all its fields, and the
    command gets an instance. With some of the fields: only these, and it gets a mapping.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        parameters: dict[str, inspect.Parameter] = {}
        makers: dict[str, tuple[Callable[..., Any], list[str]]] = {}
        for name, parameter in own.parameters.items():
            if name not in groups:
                parameters[name] = parameter
                continue
            group = groups[name]
            kind, fields = group if isinstance(group, tuple) else (group, None)
            offered = _fields(kind)
            makers[name] = (kind, [*offered]) if fields is None else (dict, [*fields])
            parameters |= {field: offered[field] for field in makers[name][1]}

        @wraps(command)
        def run(**values: Any) -> None:
            for name, (make, fields) in makers.items():
                values[name] = make(**{field: values.pop(field) for field in fields})
            command(**values)

        keyword_only = inspect.Parameter.KEYWORD_ONLY
        by_keyword = [parameter.replace(kind=keyword_only) for parameter in parameters.values()]
        vars(run)["__signature__"] = own.replace(parameters=by_keyword)
        return run

    return decorated
