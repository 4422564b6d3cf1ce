"""Connect an upscaler of which only the address is known: read its description, then call once.

`look` asks the server what it is and suggests an entry; `attempt` makes one call, which may cost
money, through the adapter that would serve, and corrects what only an answer shows (the scale,
where the picture is). Answers are recorded and replayed to the corrected entry, so the call is paid
for once. The address comes from a web page, so `upscalers/outbound/guard.py` checks it.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlsplit

import httpx
from pydantic import SecretStr, TypeAdapter, ValidationError

from trustscale_server.pixels.align import Agreement
from trustscale_server.platform.config_errors import mistakes
from trustscale_server.platform.errors import (
    BadRequest,
    ConfigError,
    ProtocolError,
    UpscalerError,
    UpscalerUnavailable,
)
from trustscale_server.upscalers import entries, polling
from trustscale_server.upscalers.base import Source
from trustscale_server.upscalers.config import EmbeddedConfig, OneAddress, SuppliedConfig
from trustscale_server.upscalers.entries import Entry, Suggestion
from trustscale_server.upscalers.outbound.guard import (
    FetchPolicy,
    ForeignHost,
    NetworkAccess,
    http_url,
    target,
)
from trustscale_server.upscalers.probe import pattern
from trustscale_server.upscalers.registry import UpscalerConfig, build_adapter, build_upscaler
from trustscale_server.upscalers.remote.failures import NoImage, WrongSize
from trustscale_server.upscalers.remote.generic import load_preset, merge, preset_names
from trustscale_server.upscalers.remote.pointers import find_all, first, images
from trustscale_server.upscalers.remote.replies import failure
from trustscale_server.upscalers.remote.sample_reader import ASPECT_TOLERANCE
from trustscale_server.upscalers.remote.upstream import Upstream

_MAX_S: Final = 300.0
_MAX_BYTES: Final = 64 * 2**20  # of a recorded answer
_GUESS: Final = 16  # hardly any model's scale, so the answer shows the right one
_MAX_TRIES: Final = 12
_REPLICATE: Final = "https://api.replicate.com/v1"
_REPORT_SCALE: Final = ("embedded", "worker")
_WORKER: Final = "trustscale-worker"
_ADAPTER: Final[TypeAdapter[UpscalerConfig]] = TypeAdapter(UpscalerConfig)


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """Which upscaler to connect: its address, and settings that override what is found.

    address: a URL, or an ONNX file.
    settings: of the entry; they override what is found.
    allow_private: whether the address may be private, or without TLS.
    """

    address: str
    token: SecretStr = field(default_factory=lambda: SecretStr(""))
    settings: Entry = field(default_factory=dict)
    allow_private: bool = False
    network: NetworkAccess = field(default_factory=NetworkAccess)

    @property
    def environ(self) -> dict[str, str]:
        return {self.settings.get("token_env", ""): self.token.get_secret_value()}


@dataclass(frozen=True, slots=True)
class Trial:
    """What one call has shown, and the complete entry."""

    entry: Entry
    notes: list[str]
    scale: int
    seconds: float
    lossless: bool


async def look(request: ConnectRequest) -> Suggestion:
    """Suggest an entry from the server's description; nothing is generated.

    Raises:
        BadRequest: no such address, or no description of an upscaler.
        UpscalerError: unreachable, or it refuses the token.
    """
    if request.address.endswith(".onnx") and "://" not in request.address:
        return _of_file(request)
    if request.settings.get("kind", "") == "embedded":
        raise BadRequest("An address is not a file, so kind cannot be embedded.")
    split = _parts(request.address)
    if "preset" in request.settings:
        where = {"kind": "http", "url": split.geturl()}
        described = Suggestion("an API that is described already", where)
        return _named(described, request, split.hostname or "")
    base, path = _split(split)
    for above, rest in _above(base, path):
        suggestion = await _described(request, above, rest)
        if suggestion is not None:
            return _named(suggestion, request, split.hostname or "")
    known = [
        name
        for name in preset_names()
        if urlsplit(load_preset(name).get("url", "")).netloc == split.netloc
    ]
    hint = f" There are presets for it: set preset to {' or '.join(known)}." if known else ""
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
        base, _, last = base.rpartition("/")
        path = f"/{last}{path}"


async def _described(request: ConnectRequest, base: str, path: str) -> Suggestion | None:
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


async def attempt(entry: Entry, request: ConnectRequest, polls: Sequence[str] = ()) -> Trial:
    """Call once with a small picture, through the adapter that would serve.

    polls: paths with `{id}` where an API with a queue may have the picture.

    Raises:
        BadRequest: a setting is wrong.
        UpscalerError: the answer is no sample.
    """
    source, began = Source(pattern()), time.perf_counter()
    seconds = 0.0
    async with _guarded(request) as transport:
        tape = _Tape(transport)
        network = replace(request.network, transport=tape)
        waiting, notes = [entry], []
        queued = ""
        ends = asyncio.get_running_loop().time() + _MAX_S
        for left in reversed(range(_MAX_TRIES)):
            now = waiting.pop(0)
            tape.rewind()
            try:
                async with asyncio.timeout_at(ends):
                    scale, lossless, colours = await _generated(
                        now, request.environ, network, source
                    )
            except TimeoutError as error:
                raise UpscalerUnavailable("The call was not answered in time.") from error
            except UpscalerError as error:
                seconds = seconds or time.perf_counter() - began
                corrected, note = _corrected(now, error, source, polls)
                if isinstance(error, NoImage) and entry["kind"] == "http":
                    queued = queued or polling.queue_hint(now, error.document)
                waiting = [*corrected, *waiting]
                notes += [note] if note else []
                if (not waiting or not left) and queued:
                    raise ProtocolError(queued) from error
                if not waiting or not left:
                    raise
                if waiting[0].get("poll") != now.get("poll"):
                    tape.forget_reads()
                continue
            seconds = seconds or time.perf_counter() - began
            if not lossless:
                notes.append("Its pictures come in a lossy format, whose noise adds to σ.")
            if colours:
                notes.append(f"Colours: {colours}.")
            known = {} if now["kind"] in _REPORT_SCALE else {"scale": scale}
            entry = polling.narrowed({**now, **known}, tape.documents())
            return Trial(entry, notes, scale, seconds, lossless)
    raise AssertionError


def _corrected(
    entry: Entry, error: UpscalerError, source: Source, polls: Sequence[str]
) -> tuple[list[Entry], str]:
    """Entries that the same answer may fit, and a sentence for the user."""
    if isinstance(error, ForeignHost):
        hosts = [*entry.get("allowed_hosts", []), error.host]
        note = f"Results are on {error.host}, which allowed_hosts now names: is it the provider's?"
        return [{**entry, "allowed_hosts": hosts}], note
    if isinstance(error, NoImage):
        if error.document is None and entry["kind"] == "http":
            return [merge(entry, {"answer": {"image": "body"}})], ""
        pointed = [_pointed(entry, place) for place in images(error.document)]
        later = polling.guesses(entry, error.document, polls) if entry["kind"] == "http" else []
        # What is not done yet holds no picture.
        return ([*later, *pointed] if "poll" in entry else [*pointed, *later]), ""
    if isinstance(error, WrongSize) and "scale" not in entry:
        (width, height), k = error.size, error.size[0] / source.width
        scale = {"scale": max(1, round(k))}
        if (width, height) == (scale["scale"] * source.width, scale["scale"] * source.height):
            return [{**entry, **scale}], ""
        if abs(width / height * source.height / source.width - 1) <= ASPECT_TOLERANCE:
            note = f"Its pictures have another size, {width}×{height} here: resize_mode = resize."
            return [{**entry, **scale, "resize_mode": "resize"}], note
    return [], ""


def _pointed(entry: Entry, place: str) -> Entry:
    if entry["kind"] == "http":
        return merge(entry, {"answer": {"pointer": place}})
    if entry["kind"] == "gradio":
        place = re.sub("/(url|path)$", "", place)
    return {**entry, "output_pointer": place}


async def _generated(
    entry: Entry, environ: Mapping[str, str], network: NetworkAccess, source: Source
) -> tuple[int, bool, Agreement | None]:
    """Call once: the scale, whether the picture came without loss, and how its colours agree."""
    config = upscaler_config_of(entry)
    try:
        if isinstance(config, EmbeddedConfig | SuppliedConfig):
            upscaler = build_upscaler(config, environ)
        else:
            upscaler = build_adapter(config, environ, network=network)
    except ConfigError as error:
        raise BadRequest(error.detail) from error
    try:
        await upscaler.probe()
        (sample,) = await upscaler.generate(source, [1])
        scale = sample.shape[0] // source.height
        colours = (
            None
            if scale == 1
            else await asyncio.to_thread(Agreement.from_pictures, sample, source.rgb)
        )
        return scale, upscaler.capabilities.lossless, colours
    finally:
        await upscaler.close()


def upscaler_config_of(entry: Entry) -> UpscalerConfig:
    """Check the entry as settings; a missing scale is guessed. Raises BadRequest."""
    guess = {} if entry["kind"] in _REPORT_SCALE or "preset" in entry else {"scale": _GUESS}
    with _checked():
        return _ADAPTER.validate_python({**guess, **entry})


async def _replicate(upstream: Upstream, path: str, _: Entry) -> Suggestion | None:
    """`/models/OWNER/NAME` of Replicate's API."""
    match = re.fullmatch(r"/models/([\w.-]+/[\w.-]+)(?:/versions/([0-9a-f]{64}))?", path)
    if match is None:
        return None
    reply = await upstream.call("GET", path)
    version = reply.json() if match[2] else first(reply.json(), "/latest_version")
    where: Entry = {"kind": "replicate", "model": ":".join(filter(None, match.groups()))}
    if upstream.base != _REPLICATE:
        where["url"] = upstream.base
    return entries.of_predictions(first(version, "/openapi_schema"), where, "a model on Replicate")


async def _oip(upstream: Upstream, path: str, settings: Entry) -> Suggestion | None:
    """A server with `/v2`; its model is in the settings or the path, or the only one."""
    server = await _document(upstream, "/v2")
    if not isinstance(server, dict) or "extensions" not in server:
        return None
    if server.get("name") == _WORKER:
        return Suggestion("a worker of ours", {"kind": "worker", "urls": [upstream.base]})
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
    return entries.of_oip(metadata.json(), where)


async def _gradio(upstream: Upstream, _: str, settings: Entry) -> Suggestion | None:
    config = await _document(upstream, "/config")
    if not isinstance(config, dict) or "components" not in config:
        return None
    prefix = str(config.get("api_prefix") or "").rstrip("/")
    info = await upstream.call("GET", f"{prefix}/info")
    where = {"kind": "gradio", "url": upstream.base}
    return entries.of_gradio(info.json(), where, settings.get("api_name"))


async def _openapi(upstream: Upstream, path: str, settings: Entry) -> Suggestion | None:
    """A Cog container, or the operation at this path, or else the best, of another description."""
    named_path = first(settings, "/request/path")
    for place in [path] if path.endswith(".json") else ["/openapi.json", "/docs.json"]:
        document = await _document(upstream, place)
        if first(document, "/components/schemas/Input/properties") is not None:
            where = {"kind": "cog", "url": upstream.base}
            suggestion = entries.of_predictions(document, where, "a Cog container")
        else:
            where = {"kind": "http", "url": upstream.base}
            suggestion = entries.of_openapi(document, where, named_path or path)
            if suggestion is None and not named_path:
                suggestion = entries.of_openapi(document, where, None)
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
    ways = ("token_env", "token_header", "token_scheme", "headers", "allow_private")
    given = {name: request.settings[name] for name in ways if name in request.settings}
    with _checked():
        config = OneAddress(kind="", name="upscaler", url=base, scale=1, call_timeout_s=20, **given)
    async with _guarded(request) as transport:
        network = replace(request.network, transport=transport)
        upstream = Upstream(config, base, request.environ, network)
        try:
            yield upstream
        finally:
            await upstream.close()


def _of_file(request: ConnectRequest) -> Suggestion:
    path = Path(request.address)
    suggestion = Suggestion("an ONNX file", {"kind": "embedded", "model": str(path)})
    return _named(suggestion, request, path.stem)


def _named(suggestion: Suggestion, request: ConnectRequest, of: str) -> Suggestion:
    """The suggestion with a name and the given settings. Raises BadRequest."""
    name = _slug(of)
    model = str(suggestion.entry.get("model", "")).partition(":")[0].rpartition("/")[2]
    if suggestion.entry["kind"] in {"replicate", "oip"}:
        name = model or name
    elif re.fullmatch(r"[\d.]+|localhost", name):
        called = re.sub("(?i)^(fastapi|api)$", "", suggestion.title)
        operation = str(first(suggestion.entry, "/request/path") or "").rpartition("/")[2]
        name = _slug(called) or _slug(operation) or suggestion.entry["kind"]
    suggestion.entry = merge({"name": name or "upscaler", **suggestion.entry}, request.settings)
    upscaler_config_of(suggestion.entry)
    suggestion.needs = [
        need
        for need in suggestion.needs
        if not find_all(suggestion.entry, f"/{need.replace('.', '/')}")
    ]
    members = [suggestion.what, suggestion.entry, suggestion.needs, suggestion.notes]
    try:
        json.dumps(members, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise BadRequest("The description that the server gives cannot be read.") from error
    return suggestion


def _slug(text: str) -> str:
    return re.sub("[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64]


def _parts(address: str) -> SplitResult:
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


@contextmanager
def _checked() -> Iterator[None]:
    """Turn invalid settings into BadRequest."""
    try:
        yield
    except ValidationError as error:
        raise BadRequest(f"Wrong settings: {mistakes(error, OneAddress)}") from None


_PRIVATE: Final = (
    " If it is your own server: name connect in allow_private_networks, or run `trustscale connect "
    "ADDRESS` where the service runs."
)


@asynccontextmanager
async def _guarded(request: ConnectRequest) -> AsyncIterator[httpx.AsyncBaseTransport]:
    async with request.network.transport or httpx.AsyncHTTPTransport() as transport:
        yield _Guarded(transport, request)


class _Guarded(httpx.AsyncBaseTransport):
    """Connects to the checked address, whatever name was used."""

    def __init__(self, transport: httpx.AsyncBaseTransport, request: ConnectRequest) -> None:
        self._transport = transport
        self._wanted = request

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx. Raises BadRequest for an address that is not allowed."""
        policy = FetchPolicy(None, (request.url.host,), self._wanted.allow_private, "upscaler")
        try:
            place = await target(str(request.url), policy, self._wanted.network.resolve)
        except ProtocolError as error:
            way = "" if self._wanted.allow_private else _PRIVATE
            raise BadRequest(f"{error.detail}{way}") from error
        pinned = httpx.Request(
            request.method,
            place.url,
            headers=request.headers,
            stream=request.stream,
            extensions={"sni_hostname": place.origin.host, **request.extensions},
        )
        return await self._transport.handle_async_request(pinned)


class _Tape(httpx.AsyncBaseTransport):
    """Records answers, and replays them from the beginning after `rewind`."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._recorded: list[tuple[str, str, httpx.Response]] = []
        self._place = 0

    def rewind(self) -> None:
        self._place = 0

    def forget_reads(self) -> None:
        """Ask again for what was read after the call, which is free, since it may have changed."""
        while self._recorded and self._recorded[-1][0].startswith("GET "):
            self._recorded.pop()

    def documents(self) -> list[Any]:
        """Return what was recorded and is JSON."""
        found = []
        for _, _, response in self._recorded:
            with suppress(ValueError):
                found.append(response.json())
        return found

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # The path may hold an id of this call.
        key, url = f"{request.method} {request.url.netloc!r}", str(request.url)
        if self._place < len(self._recorded) and self._recorded[self._place][0] == key:
            response = self._recorded[self._place][2]
        else:
            del self._recorded[self._place :]
            response = await self._received(request)
            # Of a polled prediction the last answer counts.
            if self._recorded and request.method == "GET" and self._recorded[-1][1] == url:
                self._recorded.pop()
                self._place -= 1
            self._recorded.append((key, url, response))
        self._place += 1
        return httpx.Response(
            response.status_code, headers=_plain(response.headers), content=response.content
        )

    async def _received(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise ProtocolError("It compressed its answer although asked not to.")
        body = bytearray()
        try:
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise ProtocolError(f"It sent more than {_MAX_BYTES:,} bytes.")
        finally:
            await answer.aclose()
        return httpx.Response(
            answer.status_code, headers=_plain(answer.headers), content=bytes(body)
        )


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "transfer-encoding"}
