"""The fields of forms, and refusals of forms with other fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, get_args

from fastapi import Form, Request, UploadFile, params
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from starlette.datastructures import FormData

from trustscale_server.platform.config_errors import did_you_mean, in_one_sentence
from trustscale_server.platform.errors import BadRequest, shortened

FORM_TYPES: Final = ("multipart/form-data", "application/x-www-form-urlencoded")
MAX_JSON_BYTES: Final = 2**16
"""The largest body with settings; a larger one would be parsed in the event loop for too long."""

Webhook = Annotated[
    str | None,
    Form(
        max_length=2000,
        description="URL to notify of the end of the job, on a host that the service allows.",
    ),
]
"""The field of a form that begins a job."""

_MAX_NAMED = 5  # of the wrong fields, in one answer


async def check_form(request: Request) -> None:
    """Refuse a form with a field that the operation does not take; other bodies pass.

    Ignored, `aplha=0.03` would get the mask of α = 0.05; so would `?alpha=0.03` in the address.

    Raises:
        BadRequest: `fields` names the others, with what was probably meant.
    """
    operation = request.scope["route"].dependant
    accepted = _accepted_fields(operation)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if accepted and media_type in FORM_TYPES:
        in_address = set(request.query_params) & set(accepted)
        in_address -= {field.alias for field in operation.query_params}
        if in_address:
            names = ", ".join(sorted(in_address))
            raise BadRequest(f"Send {names} in the form, not in the address.")
        # Read already under the operation's limits; this returns the same object.
        check_fields(await request.form(), accepted)


def _accepted_fields(operation: Dependant) -> dict[str, bool]:
    """The names of the form fields that an operation takes, and whether each is a file."""
    accepted: dict[str, bool] = {}
    for dependant in (operation, *operation.dependencies):
        for field in dependant.body_params:
            info = field.field_info
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                accepted |= {
                    name: UploadFile in (member.annotation, *get_args(member.annotation))
                    for name, member in info.annotation.model_fields.items()
                }
            elif isinstance(info, params.Form):
                accepted[field.alias] = isinstance(info, params.File)
    return accepted


def check_fields(form: FormData, accepted: Mapping[str, bool]) -> None:
    """Refuse a form with other fields than `accepted`, whose values say which are files.

    Raises:
        BadRequest: as `check_form`.
    """
    wrong: dict[str, str] = {}
    for name, value in form.multi_items():
        if name not in accepted:
            wrong[name] = _unknown(name, accepted)
        elif accepted[name] and isinstance(value, str) and value:
            wrong[name] = (
                f"this must be a file, and is the text {shortened(value)}; "
                f"with curl: -F {name}=@FILE, with an @"
            )
        if len(wrong) == _MAX_NAMED:
            break
    if wrong:
        detail = in_one_sentence((shortened(name), reason) for name, reason in wrong.items())
        items = [{"field": name[:80], "reason": reason} for name, reason in wrong.items()]
        raise BadRequest(detail, fields=items)


def _unknown(name: str, accepted: Iterable[str]) -> str:
    suggestion = did_you_mean(name, accepted) or f"; the form takes {', '.join(sorted(accepted))}"
    return f"there is no such field{suggestion}"
