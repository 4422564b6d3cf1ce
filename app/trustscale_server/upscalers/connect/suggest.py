"""The entry of an upscaler from its address: its server is asked what it is.

Nothing is generated.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

import httpx

from trustscale_server.platform.errors import BadRequest, ProtocolError, UpscalerUnavailable
from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.connect import descriptions
from trustscale_server.upscalers.connect.request import (
    ConnectRequest,
    as_bad_request,
    guarded,
    upscaler_config_of,
)
from trustscale_server.upscalers.entries import Entry
from trustscale_server.upscalers.outbound.guard import http_url
from trustscale_server.upscalers.pointers import find_all, first
from trustscale_server.upscalers.remote.presets import load_preset, merge, preset_names
from trustscale_server.upscalers.remote.replies import failure
from trustscale_server.upscalers.remote.upstream import Upstream

_REPLICATE: Final = "https://api.replicate.com/v1"


async def suggest(request: ConnectRequest) -> descriptions.Suggestion:
    """Suggest an entry from the server's description.

    Raises:
        BadRequest: no such address, or no description of an upscaler.
        UpscalerError: unreachable, or it refuses the token.
    """
    if request.address.endswith(".onnx") and "://" not in request.address:
        file = Path(request.address)
        model = descriptions.Suggestion("an ONNX file", {"kind": "embedded", "model": str(file)})
        return _completed(model, request, file.stem)
    if request.settings.get("kind", "") == "embedded":
        raise BadRequest("An address is not a file, so kind cannot be embedded.")
    url = _api_url(request.address)
    host = url.hostname or ""
    if "preset" in request.settings:
        api = descriptions.Suggestion(
            "an API that is described already", {"kind": "http", "url": url.geturl()}
        )
        return _completed(api, request, host)
    base, path_below = _split(url)
    for address, path in _above(base, path_below):
        suggestion = await _described(request, address, path)
        if suggestion is not None:
            return _completed(suggestion, request, host)
    presets = [
        name
        for name in preset_names()
        if urlsplit(load_preset(name).get("url", "")).netloc == url.netloc
    ]
    hint = f" There are presets for it: set preset to {' or '.join(presets)}." if presets else ""
    raise BadRequest(
        f"No description of an upscaler is at {base}; tried /v2 (Triton, KServe, MLServer), "
        f"/config (Gradio), /openapi.json (Cog, OpenAPI) and /docs.json.{hint}"
    )


def _above(base: str, path: str) -> Iterator[tuple[str, str]]:
    """The address and those above it: a pasted one may be that of a call, or of a web page."""
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(base))
    while True:
        yield base, path
        if base == origin:
            return
        base, _, step = base.rpartition("/")
        path = f"/{step}{path}"


async def _described(
    request: ConnectRequest, base: str, path: str
) -> descriptions.Suggestion | None:
    async with _upstream(request, base) as upstream:
        for read in (_replicate, _oip, _gradio, _openapi):
            try:
                suggestion = await read(upstream, path, request.settings)
            except UpscalerUnavailable as error:
                if not isinstance(error.__cause__, httpx.ConnectError):
                    raise
                raise UpscalerUnavailable(f"Nothing can be reached at {base}.") from error
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
                raise BadRequest("The description that the server gives cannot be read.") from error
            if suggestion is not None:
                return suggestion
    return None


async def _replicate(upstream: Upstream, path: str, _: Entry) -> descriptions.Suggestion | None:
    """`/models/OWNER/NAME` of Replicate's API."""
    match = re.fullmatch(r"/models/([\w.-]+/[\w.-]+)(?:/versions/([0-9a-f]{64}))?", path)
    if match is None:
        return None
    reply = await upstream.call("GET", path)
    version = reply.json() if match[2] else first(reply.json(), "/latest_version")
    where: Entry = {"kind": "replicate", "model": ":".join(filter(None, match.groups()))}
    if upstream.base != _REPLICATE:
        where["url"] = upstream.base
    return descriptions.of_predictions(
        first(version, "/openapi_schema"), where, "a model on Replicate"
    )


async def _oip(upstream: Upstream, path: str, settings: Entry) -> descriptions.Suggestion | None:
    """A server with `/v2`; its model is in the settings or the path, or the only one."""
    server = await _document(upstream, "/v2")
    if not isinstance(server, dict) or "extensions" not in server:
        return None
    if server.get("name") == "trustscale-worker":
        return descriptions.Suggestion(
            "a worker of ours", {"kind": "worker", "urls": [upstream.base]}
        )
    named = re.match(r"/v2/models/([^/]+)", path)
    model = settings.get("model") or (named and named[1])
    if not model:
        reply = await upstream.request("POST", "/v2/repository/index", json={})
        names = sorted(str(name) for name in find_all(reply.document, "/*/name"))
        if len(names) != 1:
            has = f"it has: {', '.join(names)}" if names else "it does not list them"
            raise BadRequest(f"{upstream.base} serves several models; set model to one: {has}.")
        model = names[0]
    metadata = await upstream.call("GET", f"/v2/models/{quote(model, safe='')}")
    where = {"kind": "oip", "url": upstream.base, "model": model}
    return descriptions.of_oip(metadata.json(), where)


async def _gradio(upstream: Upstream, _: str, settings: Entry) -> descriptions.Suggestion | None:
    config = await _document(upstream, "/config")
    if not isinstance(config, dict) or "components" not in config:
        return None
    prefix = str(config.get("api_prefix") or "").rstrip("/")
    info = await upstream.call("GET", f"{prefix}/info")
    where = {"kind": "gradio", "url": upstream.base}
    return descriptions.of_gradio(info.json(), where, settings.get("api_name"))


async def _openapi(
    upstream: Upstream, path: str, settings: Entry
) -> descriptions.Suggestion | None:
    """A Cog container, or the operation at this path, or else the best, of another description."""
    named_path = first(settings, "/request/path")
    for place in [path] if path.endswith(".json") else ["/openapi.json", "/docs.json"]:
        document = await _document(upstream, place)
        if first(document, "/components/schemas/Input/properties") is not None:
            where = {"kind": "cog", "url": upstream.base}
            suggestion = descriptions.of_predictions(document, where, "a Cog container")
        else:
            where = {"kind": "http", "url": upstream.base}
            suggestion = descriptions.of_openapi(document, where, named_path or path)
            if suggestion is None and not named_path:
                suggestion = descriptions.of_openapi(document, where, None)
        if suggestion is not None:
            return suggestion
    return None


async def _document(upstream: Upstream, path: str) -> Any:
    """A description, or None. Raises UpscalerError if the token is refused."""
    try:
        reply = await upstream.request("GET", path)
    except ProtocolError:
        return None
    if reply.status in {401, 403}:
        raise failure(reply, upstream.name)
    return reply.document if reply.ok else None


@asynccontextmanager
async def _upstream(request: ConnectRequest, base: str) -> AsyncIterator[Upstream]:
    names = ("token_env", "token_header", "token_scheme", "headers", "allow_private")
    settings = {name: request.settings[name] for name in names if name in request.settings}
    with as_bad_request():
        config = OneAddress(
            kind="", name="upscaler", url=base, scale=1, call_timeout_s=20, **settings
        )
    async with guarded(request) as transport:
        network = replace(request.network, transport=transport)
        upstream = Upstream(config, base, request.environ, network)
        try:
            yield upstream
        finally:
            await upstream.close()


def _completed(
    suggestion: descriptions.Suggestion, request: ConnectRequest, origin: str
) -> descriptions.Suggestion:
    """The suggestion with a name, by default of its origin, and the request's settings.

    Raises BadRequest.
    """
    name = _slug(origin)
    model = str(suggestion.entry.get("model", "")).partition(":")[0].rpartition("/")[2]
    if suggestion.entry["kind"] in {"replicate", "oip"}:
        name = model or name
    elif re.fullmatch(r"[\d.]+|localhost", name):
        title = re.sub("(?i)^(fastapi|api)$", "", suggestion.title)
        operation = str(first(suggestion.entry, "/request/path") or "").rpartition("/")[2]
        name = _slug(title) or _slug(operation) or suggestion.entry["kind"]
    suggestion.entry = merge({"name": name or "upscaler", **suggestion.entry}, request.settings)
    upscaler_config_of(suggestion.entry)
    suggestion.needs = [
        need
        for need in suggestion.needs
        if not find_all(suggestion.entry, f"/{need.replace('.', '/')}")
    ]
    texts = [suggestion.what, suggestion.entry, suggestion.needs, suggestion.notes]
    try:
        json.dumps(texts, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise BadRequest("The description that the server gives cannot be read.") from error
    return suggestion


def _slug(text: str) -> str:
    return re.sub("[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64]


def _api_url(address: str) -> SplitResult:
    """The URL of an API, also from the address of its web page; else BadRequest."""
    place = address.strip().rstrip("/")
    if space := re.match(r"https://huggingface\.co/spaces/([\w.-]+)/([\w.-]+)", place):
        place = f"https://{re.sub('[._]', '-', f'{space[1]}-{space[2]}')}.hf.space".lower()
    elif model := re.match(r"https://replicate\.com/([\w.-]+/[\w.-]+)", place):
        place = f"{_REPLICATE}/models/{model[1]}"
    try:
        return http_url(place)
    except ValueError as error:
        raise BadRequest(f"A URL or an .onnx file is needed; this is {error}.") from error


def _split(url: SplitResult) -> tuple[str, str]:
    """The address of the API, and the path of a model or description below it."""
    match = re.search(r"(/models/[\w.-]+/[\w.-]+.*|/v2(/models/.*)?|/[\w.-]+\.json)$", url.path)
    place = match[0] if match else ""
    return f"{url.scheme}://{url.netloc}{url.path.removesuffix(place)}".rstrip("/"), place
