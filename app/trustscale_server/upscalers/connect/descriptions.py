"""Entries of `[[upscalers]]` from a server's description of itself.

What a description does not say is left to a trial, or to a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from trustscale_server.upscalers.entries import Entry
from trustscale_server.upscalers.pointers import find_all, first

_IMAGES: Final = ("image", "img", "photo", "picture", "file", "input", "media", "content")
_NO_IMAGE: Final = re.compile(r"mask|output|format|reference|name|type", re.IGNORECASE)
_SEED: Final = re.compile(r"(^|_)seeds?$", re.IGNORECASE)
_SCALE: Final = re.compile(r"scale|factor", re.IGNORECASE)
_UPSCALES: Final = re.compile(r"upscal|super|enhanc|restor|sharp|resol", re.IGNORECASE)
_SECRET: Final = re.compile(r"key|token|auth|secret", re.IGNORECASE)
_MAX_SEED: Final = 2**31 - 1
_FORM: Final = "multipart/form-data"
_EMPTY: Final = {"string": "", "number": 0, "integer": 0, "boolean": False}


@dataclass(slots=True)
class Suggestion:
    """What a server's description says about its upscaler.

    what: the kind of server, for display.
    entry: without `scale`, which only an answer shows.
    needs: settings that the model requires and a person must give.
    notes: what a person should look at.
    title: what it calls itself.
    polls: paths with `{id}` that may answer later.
    """

    what: str
    entry: Entry
    needs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    title: str = ""
    polls: list[str] = field(default_factory=list)


class _Fields(NamedTuple):
    """The roles of a request's properties."""

    image: str | None
    seed: str | None
    seed_max: int
    fixed: dict[str, Any]
    needed: list[str]


def of_predictions(schema: Any, where: Entry, what: str) -> Suggestion | None:
    """Suggest an entry for Cog or Replicate; None if it takes no image."""
    roles = _roles(_resolved(first(schema, "/components/schemas/Input"), schema), schema)
    if roles.image is None:
        return None
    entry: Entry = {
        **where,
        "image_field": roles.image,
        "seed_field": roles.seed or "",
        **({"seed_max": roles.seed_max} if roles.seed and roles.seed_max < _MAX_SEED else {}),
        **({"input": roles.fixed} if roles.fixed else {}),
    }
    return Suggestion(what, entry, [f"input.{name}" for name in roles.needed])


def of_gradio(info: Any, where: Entry, api_name: str | None) -> Suggestion | None:
    """Suggest an entry for a Gradio app: the endpoint `api_name`, or the best one."""
    suitable = {
        name: (inputs, output)
        for name, endpoint in _items(first(info, "/named_endpoints"))
        if (inputs := _arguments(find_all(endpoint, "/parameters/*")))
        and (output := _picture_of(find_all(endpoint, "/returns/*"))) is not None
        and (api_name is None or name.strip("/") == api_name.strip("/"))
    }
    if not suitable:
        return None
    best = max(
        suitable, key=lambda name: ("{seed}" in suitable[name][0], bool(_UPSCALES.search(name)))
    )
    inputs, output = suitable[best]
    entry = {
        **where,
        "api_name": best.strip("/"),
        "inputs": inputs,
        "output_pointer": f"/{output}",
    }
    unused = sorted(name.strip("/") for name in suitable if name != best)
    notes = [f"It has other endpoints, too: api_name = {', '.join(unused)}."] if unused else []
    return Suggestion("a Gradio app", entry, [], notes)


def _arguments(parameters: list[Any]) -> list[Any]:
    """The arguments of a Gradio endpoint; empty if none is a picture."""
    arguments: list[Any] = []
    for parameter in parameters:
        name = f"{first(parameter, '/parameter_name')} {first(parameter, '/label')}"
        kind = first(parameter, "/type/type")
        if first(parameter, "/component") == "Image" and "{image}" not in arguments:
            arguments.append("{image}")
        elif any(map(_SEED.search, name.split())):
            arguments.append("{seed}")
        else:
            default = first(parameter, "/parameter_default")
            arguments.append(_EMPTY.get(kind, "") if default is None else default)
    return arguments if "{image}" in arguments else []


def _picture_of(returns: list[Any]) -> int | None:
    kinds = [str(first(output, "/component")) for output in returns]
    return next((k for k, kind in enumerate(kinds) if re.search("Image|Gallery|File", kind)), None)


def of_oip(metadata: Any, where: Entry) -> Suggestion:
    """Suggest an entry for a model of the Open Inference Protocol."""
    entry, notes = {**where}, []
    inputs, outputs = find_all(metadata, "/inputs/*"), find_all(metadata, "/outputs/*")
    seed = next((tensor for tensor in inputs if tensor.get("datatype") == "INT64"), None)
    image = next((tensor for tensor in inputs if _layout(tensor)), None)
    output = next((tensor for tensor in outputs if _layout(tensor)), None)
    if image is None or output is None:
        notes.append(
            "Its metadata names no tensors: set image_input, image_layout, seed_input, output and "
            "output_layout where they are others than image, HWC, none, samples and NHWC."
        )
    if image is not None:
        entry |= {"image_input": image["name"], "image_layout": _layout(image)}
        if image["datatype"] == "FP32":
            entry["image_datatype"] = "FP32"
    if seed is not None:
        entry["seed_input"] = seed["name"]
        if len(seed["shape"]) > 1:
            entry["seed_shape"] = seed["shape"]
    if output is not None:
        entry |= {"output": output["name"], "output_layout": _layout(output)}
    return Suggestion("a server of the Open Inference Protocol", entry, [], notes)


def _layout(tensor: Any) -> str | None:
    """The axes of a tensor that may be an image; None: it cannot be one."""
    if tensor.get("datatype") == "BYTES":
        return "PNG"
    shape = list(tensor.get("shape", []))
    if tensor.get("datatype") not in {"UINT8", "FP32"} or len(shape) not in {3, 4}:
        return None
    axes = "CHW" if shape[-3] in {1, 3} and shape[-1] != 3 else "HWC"
    return axes if len(shape) == 3 else f"N{axes}"


def of_openapi(document: Any, where: Entry, path: str | None) -> Suggestion | None:
    """Suggest an entry for the best operation of an OpenAPI 3 description that takes a picture."""
    scored = [
        (score, suggestion)
        for score, suggestion in _suggestions(document, where)
        if path is None or suggestion.entry["request"]["path"] == path
    ]
    if not scored:
        return None
    _, best = max(scored, key=lambda pair: pair[0])
    best.title = str(first(document, "/info/title") or "")
    best.polls = [
        _prefix(document) + re.sub(r"\{[^{}]*\}", "{id}", name)
        for name, methods in _items(first(document, "/paths"))
        if name.count("{") == 1 and "get" in dict(_items(methods))
    ]
    paths = {suggestion.entry["request"]["path"] for _, suggestion in scored}
    unused = sorted(paths - {best.entry["request"]["path"]})
    if unused:
        best.notes.append(f"Other operations take pictures, too: {', '.join(unused)}.")
    return best


def _operations(document: Any) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Path, method and description of what may take a picture, and what its path describes."""
    for path, described in _items(first(document, "/paths")):
        of_path = dict(_items(described))
        for method in ("post", "put"):
            if isinstance(of_path.get(method), dict):
                yield path, method, of_path[method], of_path


def _suggestions(document: Any, where: Entry) -> Iterator[tuple[int, Suggestion]]:
    """Every operation that takes a picture; the score says how much it looks like an upscaler."""
    for path, method, operation, of_path in _operations(document):
        body = _resolved(operation.get("requestBody"), document)
        for kind, media in _items(body.get("content")):
            request = _request(kind, media, document)
            if request is None:
                continue
            fields, seed_max, needed = request
            fields = {"path": _prefix(document) + path, **fields}
            if method == "put":
                fields["method"] = "PUT"
            token, headers = _headers(operation, of_path, document)
            is_picture = any(name.startswith("image/") for name in _answers(operation, document))
            entry = {
                **where,
                **token,
                "request": fields,
                **({"seed": {"min": 1, "max": seed_max}} if seed_max else {}),
                "answer": {"image": "body" if is_picture else "json"},
            }
            needs = [*headers, *(f"request.{name}" for name in needed)]
            text = f"{path} {operation.get('operationId')} {operation.get('summary')}"
            score = 4 * bool(_UPSCALES.search(text)) + 2 * is_picture + (kind == _FORM)
            yield score, Suggestion("an HTTP API with an OpenAPI description", entry, needs)


def _request(kind: str, media: Any, document: Any) -> tuple[dict[str, Any], int, list[str]] | None:
    """The `request` of a media type, the largest seed (0: none), and further needs."""
    if kind.startswith("image/") or kind == "application/octet-stream":
        return {"form": "raw"}, 0, []
    if kind not in {_FORM, "application/json"}:
        return None
    schema = _resolved(first(media, "/schema"), document)
    roles = _roles(schema, document, files=kind == _FORM)
    if roles.image is None:
        return None
    seed = {roles.seed: "{seed}"} if roles.seed else {}
    largest = roles.seed_max if roles.seed else 0
    if kind == _FORM:
        request = {"form": "multipart", "image_field": roles.image, "fields": seed | roles.fixed}
        return request, largest, [f"fields.{name}" for name in roles.needed]
    is_link = "ur" in roles.image.lower().split("_")[-1]  # url, uri
    image = "{image_data_uri}" if is_link else "{image_b64}"
    request = {"form": "json", "json": {roles.image: image} | seed | roles.fixed}
    return request, largest, [f"json.{name}" for name in roles.needed]


def _headers(
    operation: Mapping[str, Any], of_path: Mapping[str, Any], document: Any
) -> tuple[Entry, list[str]]:
    """The settings of the header that takes the token, and further headers that are needed."""
    declared = [
        scheme
        for place in (of_path, operation)
        for parameter in place.get("parameters") or ()
        if (scheme := _resolved(parameter, document)).get("in") == "header"
    ]
    schemes = [
        _resolved(scheme, document)
        for _, scheme in _items(first(document, "/components/securitySchemes"))
    ]
    keys = [
        scheme
        for scheme in schemes
        if scheme.get("type") == "apiKey" and scheme.get("in") == "header"
    ]
    names = [str(scheme.get("name")) for scheme in (*declared, *keys) if scheme.get("name")]
    token = next((name for name in names if _SECRET.search(name)), None)
    needed = [
        f"headers.{scheme['name']}"
        for scheme in declared
        if scheme.get("required") and not _SECRET.search(str(scheme.get("name")))
    ]
    if token is None or token.lower() == "authorization":
        return {}, needed
    return {"token_header": token, "token_scheme": ""}, needed


def _answers(operation: Any, document: Any) -> list[str]:
    return [
        name
        for status, response in _items(operation.get("responses"))
        if status.startswith("2") or status == "default"
        for name, _ in _items(_resolved(response, document).get("content"))
    ]


def _prefix(document: Any) -> str:
    """The common prefix of all paths; BentoML says "." for none."""
    server = first(document, "/servers/0/url")
    path = urlsplit(server).path if isinstance(server, str) else ""
    return path.rstrip("/") if path.startswith("/") else ""


def _roles(schema: Mapping[str, Any], document: Any, *, files: bool = False) -> _Fields:
    """The roles of a schema's properties; `files`: a picture has binary content."""
    properties = {
        name: _resolved(field_schema, document)
        for name, field_schema in _items(schema.get("properties"))
    }
    image = _image(properties, files=files)
    seed = next((name for name in properties if _SEED.search(name)), None)
    seed_max = min(int((properties.get(seed or "") or {}).get("maximum") or _MAX_SEED), _MAX_SEED)
    required = schema.get("required") or ()
    fixed, needed = {}, []
    for name, field_schema in properties.items():
        if name in {image, seed}:
            continue
        if "png" in field_schema.get("enum", ()):
            fixed[name] = "png"
        elif _SCALE.search(name) and field_schema.get("default") is not None:
            fixed[name] = field_schema["default"]  # a new default would be another model
        elif name in required and "default" not in field_schema:
            needed.append(name)
    return _Fields(image, seed, seed_max, fixed, needed)


def _image(properties: Mapping[str, Mapping[str, Any]], *, files: bool) -> str | None:
    """The property that holds the picture: of the candidates, the one with the clearest name."""
    candidates = [
        name
        for name, field_schema in properties.items()
        if field_schema.get("type") == "string"
        and not _NO_IMAGE.search(name)
        and (
            not files
            or field_schema.get("format") == "binary"
            or "contentMediaType" in field_schema
        )
    ]
    hints = [
        (k, name) for name in candidates for k, hint in enumerate(_IMAGES) if hint in name.lower()
    ]
    if hints:
        return min(hints)[1]
    return candidates[0] if files and len(candidates) == 1 else None


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _resolved(schema: Any, document: Any, depth: int = 8) -> dict[str, Any]:
    """A schema with its references resolved; of a nullable one the other alternative."""
    if not isinstance(schema, dict) or not depth:
        return {}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        return _resolved(first(document, reference[1:]), document, depth - 1)
    for key in ("allOf", "anyOf", "oneOf"):
        options = schema.get(key)
        for option in options if isinstance(options, list) else ():
            inner = _resolved(option, document, depth - 1)
            if inner and inner.get("type") != "null":
                return {**inner, **{k: v for k, v in schema.items() if k != key}}
    return schema
