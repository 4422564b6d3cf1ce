"""The fields of forms: those that are known, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, get_args

from fastapi import Form, Request, UploadFile, params
from pydantic import BaseModel
from starlette.datastructures import FormData

from trustscale_server.platform.config_errors import did_you_mean, together
from trustscale_server.platform.errors import BadRequest, shortened

FORM_TYPES: Final = ("multipart/form-data", "application/x-www-form-urlencoded")
MAX_JSON_BYTES: Final = 2**16
"""Of a body with settings: it is parsed in the event loop."""

Webhook = Annotated[
    str | None,
    Form(
        max_length=2000,
        description="URL to notify of the end of the job, on a host that the service allows.",
    ),
]
"""The field of a form that begins a job."""

_MAX_NAMED = 5


async def check_form(request: Request) -> None:
    """Refuse a form with a field that the operation does not take; other bodies pass.

    Ignored, `aplha=0.03` would get the mask of α = 0.05; so would `?alpha=0.03` in the address.

    Raises:
        BadRequest: `fields` names the others, with what was probably meant.
    """
    operation = request.scope["route"].dependant
    accepted: dict[str, bool] = {}
    for dependant in (operation, *operation.dependencies):
        for field in dependant.body_params:
            info = field.field_info
            if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
                for name, model_field in info.annotation.model_fields.items():
                    kinds = (model_field.annotation, *get_args(model_field.annotation))
                    accepted[name] = UploadFile in kinds
            elif isinstance(info, params.Form):
                accepted[field.alias] = isinstance(info, params.File)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if accepted and kind in FORM_TYPES:
        in_address = set(request.query_params) & set(accepted)
        in_address -= {field.alias for field in operation.query_params}
        if in_address:
            names = ", ".join(sorted(in_address))
            raise BadRequest(f"Send {names} in the form, not in the address.")
        # Read already under the operation's limits; this returns the same object.
        check_fields(await request.form(), accepted)


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
        detail = together((shortened(name), reason) for name, reason in wrong.items())
        items = [{"field": name[:80], "reason": reason} for name, reason in wrong.items()]
        raise BadRequest(detail, fields=items)


def _unknown(name: str, accepted: Iterable[str]) -> str:
    meant = did_you_mean(name, accepted) or f"; the form takes {', '.join(sorted(accepted))}"
    return f"there is no such field{meant}"
