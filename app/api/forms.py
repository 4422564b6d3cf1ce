"""A misspelt form field is an error, and so is text in place of a file.

An ignored field would silently change the answer: `aplha=0.05` would get the mask of α = 0.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from fastapi import Request, UploadFile, params
from pydantic import BaseModel
from starlette.datastructures import FormData

from app.config_errors import did_you_mean, together
from app.errors import BadRequest, shortened

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_MOST_NAMED = 5


async def check_form(request: Request) -> None:
    """Return if every field of a form is one that the operation takes; other bodies pass.

    Raises:
        BadRequest: `fields` names those it does not take, with what was probably meant.
    """
    operation = request.scope["route"].dependant
    taken: dict[str, bool] = {}
    for part in (operation, *operation.dependencies):
        for field in part.body_params:
            info = field.field_info
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                for name, one in info.annotation.model_fields.items():
                    kinds = (one.annotation, *get_args(one.annotation))
                    taken[name] = UploadFile in kinds
            elif isinstance(info, params.Form):
                taken[field.alias] = isinstance(info, params.File)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if taken and kind in _FORMS:
        # Read already, under the limits of the operation; this is the same object again.
        check_fields(await request.form(), taken)


def check_fields(form: FormData, taken: Mapping[str, bool]) -> None:
    """Return if a form has no other fields than these, which are files or not.

    Raises:
        BadRequest: as `check_form`.
    """
    wrong: dict[str, str] = {}
    for name, value in form.multi_items():
        if name not in taken:
            wrong[name] = _unknown(name, taken)
        elif taken[name] and isinstance(value, str) and value:
            wrong[name] = (
                f"this must be a file, and is the text {shortened(value)}; "
                f"with curl: -F {name}=@FILE, with an @"
            )
        if len(wrong) == _MOST_NAMED:
            break
    if wrong:
        detail = together((shortened(name), reason) for name, reason in wrong.items())
        items = [{"field": name[:80], "reason": reason} for name, reason in wrong.items()]
        raise BadRequest(detail, fields=items)


def _unknown(name: str, taken: Iterable[str]) -> str:
    meant = did_you_mean(name, taken) or f"; the form takes {', '.join(sorted(taken))}"
    return f"there is no such field{meant}"
