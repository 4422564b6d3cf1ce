"""The OpenAPI document, in a form that generators of clients understand."""

from __future__ import annotations

from typing import Any, Final

from fastapi.routing import APIRoute

from app.calibration.config import CalibrationConfig
from app.sampling.pipeline import Pipeline

BINARY: Final = {"type": "string", "format": "binary"}


_SCHEMAS = "#/components/schemas/"

CONFIG: Final = {
    "contentMediaType": "application/json",
    "contentSchema": {"$ref": f"{_SCHEMAS}{CalibrationConfig.__name__}"},
}
"""The schema of a form field that is a `CalibrationConfig` as JSON."""


def finished(document: dict[str, Any]) -> dict[str, Any]:
    """The document of FastAPI with what generators of clients need."""
    schemas = document["components"]["schemas"]
    # What is new and not used is left out of some; their schema says what can be there.
    for model in (CalibrationConfig, Pipeline):
        schema = model.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
        inner = schema.pop("$defs", {})
        schemas |= {name: one for name, one in inner.items() if _is_bare(schemas.get(name))}
        schemas[model.__name__] = schema
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    found: dict[str, Any] = _with_binary(document)
    return found


def _is_bare(schema: dict[str, Any] | None) -> bool:
    """Whether nothing is known of an object but that it is one."""
    return schema is None or ("properties" not in schema and "enum" not in schema)


def operation_id(route: APIRoute) -> str:
    """Operations are called as their functions are."""
    return route.name


def file_response(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a path operation that answers with a file of one of these types."""
    content = {media_type: {"schema": BINARY} for media_type in media_types}
    return {200: {"description": "The file.", "content": content}}


def body_of(media_type: str, *, form_file: str | None = None) -> dict[str, Any]:
    """The `openapi_extra` of a path operation that reads its body itself: a file.

    form_file: the file may also come as this file of a form.
    """
    content: dict[str, Any] = {media_type: {"schema": BINARY}}
    if form_file is not None:
        fields = {"type": "object", "properties": {form_file: BINARY}, "required": [form_file]}
        content["multipart/form-data"] = {"schema": fields}
    return {"requestBody": {"required": True, "content": content}}


def _with_binary(value: Any) -> Any:
    """A part of the document in which files are `format: binary`, which all generators know."""
    if isinstance(value, list):
        return [_with_binary(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("contentMediaType") == "application/octet-stream":
        rest = {name: item for name, item in value.items() if name != "contentMediaType"}
        return {**rest, "format": "binary"}
    return {name: _with_binary(item) for name, item in value.items()}
