"""Any HTTP API, described by data; `presets/` has the descriptions of well-known ones.

In a description a string that is one placeholder takes the value with its type, so `"{seed}"`
becomes a JSON number; inside a longer string it becomes text. There are no expressions, and of an
answer only links and ids enter a request.

One call is a request, then, for APIs with a queue, polls and a fetch, then the image from the body
or from JSON. Filtered and failed generations may come with status 200.
"""

from __future__ import annotations

import asyncio
import tomllib
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, model_validator

from trustscale_server.platform.errors import (
    ProtocolError,
    UpscalerError,
    UpscalerRejected,
    UpscalerUnavailable,
)
from trustscale_server.upscalers.base import RGB, Source
from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.permit import MemoryPermit
from trustscale_server.upscalers.remote.adapter import (
    PLACEHOLDER,
    Adapter,
    data_uri,
    fill,
    mask_png,
)
from trustscale_server.upscalers.remote.failures import (
    Filtered,
    GenerationFailed,
    NoImage,
    QuotaSpent,
)
from trustscale_server.upscalers.remote.pointers import Pointer, find_all, first
from trustscale_server.upscalers.remote.replies import Reply, explanation, failure, seconds_of


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Condition(_Table):
    """Holds when the named place of an answer has one of the values.

    Without `is_in`, a header or pointer holds when it is present and neither null, false nor empty.
    """

    status: tuple[int, ...] | None = None
    header: str | None = None
    pointer: Pointer | None = None
    is_in: tuple[str | int | bool, ...] | None = Field(None, alias="in")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        places = [self.status, self.header, self.pointer]
        if sum(place is not None for place in places) != 1:
            raise ValueError("a condition has exactly one of status, header and pointer")
        return self


def _as_several(value: Any) -> Any:
    """A single condition may stand without a list."""
    return (value,) if isinstance(value, dict) else value


_Conditions = Annotated[tuple[Condition, ...], BeforeValidator(_as_several)]


class Request(_Table):
    """The call that asks for a sample.

    Form `json` sends the body `json`, `multipart` the `fields` and the image, `raw` the bare PNG.
    """

    BUILT_IN: ClassVar[frozenset[str]] = frozenset(
        {
            "seed", "scale", "width", "height", "out_width", "out_height",
            "image_b64", "image_data_uri", "mask_b64", "mask_data_uri",
        }
    )  # fmt: skip
    OF_MASK: ClassVar[frozenset[str]] = frozenset({"mask_b64", "mask_data_uri"})

    method: Literal["POST", "PUT"] = "POST"
    path: str = Field("", description="Appended to the upscaler's url.")
    form: Literal["raw", "json", "multipart"]
    body: Any = Field(None, alias="json")
    fields: dict[str, Any] = Field(default_factory=dict)
    image_field: str = "image"
    query: dict[str, Any] = Field(default_factory=dict)

    @property
    def placeholders(self) -> frozenset[str]:
        """The names in braces anywhere in the request."""
        return _names([self.path, self.body, self.fields, self.query])


class SeedField(_Table):
    """The range of seeds that the API takes."""

    min: int = Field(1, description="0 often means random, so it is better left out.")
    max: int = 2**31 - 1

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.max <= self.min:
            raise ValueError("seed.max must be larger than seed.min")
        return self

    def map(self, seed: int) -> int:
        return self.min + (seed - self.min) % (self.max - self.min + 1)


class AnswerFormat(_Table):
    """Where the image is, and which answers of status 2xx fail."""

    image: Literal["body", "json"] = "body"
    pointer: Pointer = Field("", description="Where the image is: base64, data URI or URL.")
    success: _Conditions = Field((), description="All must hold; status 2xx always must.")
    filtered: _Conditions = Field((), description="Any: a filter withheld the sample.")
    failed: _Conditions = Field((), description="Any: the model failed.")
    rejected: _Conditions = Field((), description="Any: this input can never succeed.")
    quota: _Conditions = Field((), description="Any: the account has no credit left.")
    error_text: tuple[Pointer, ...] = Field((), description="Where errors are explained.")
    rate_limit_wait_s: PositiveFloat | None = Field(
        None, description="How long to wait after 429 without Retry-After."
    )


class Poll(_Table):
    """How a submitted generation is polled and fetched, on the upscaler's host only."""

    url_pointer: Pointer | None = Field(None, description="Status URL in the submit answer.")
    path: str | None = Field(None, description="Or: path with {id}, appended to the url.")
    id_pointer: Pointer = "/id"
    interval_s: PositiveFloat = 1.0
    done: _Conditions = (Condition(status=(200,)),)
    failed: _Conditions = ()
    result_url_pointer: Pointer | None = Field(
        None, description="Result URL in the submit answer; none: the last poll has the image."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url_pointer is None) == (self.path is None):
            raise ValueError("poll needs url_pointer or path")
        return self


class Cancel(_Table):
    """How a submitted generation is cancelled."""

    method: Literal["POST", "PUT", "DELETE"] = "POST"
    url_pointer: Pointer | None = None
    path: str | None = Field(None, description="Path with {id}, appended to the url.")


class HttpConfig(OneAddress):
    """Any HTTP API, described by data; `preset` names a description that is shipped."""

    HOW_TO_CALL = OneAddress.HOW_TO_CALL | {"preset", "poll", "cancel", "health_path"}

    kind: Literal["http"] = "http"
    preset: str | None = Field(
        None,
        description="The name of a [shipped description](upscalers.md), which the other settings "
        "override.",
    )
    request: Request = Field(description="The HTTP request that makes a sample.")
    seed: SeedField | None = Field(None, description="The range of seeds, if the API takes seeds.")
    answer: AnswerFormat = Field(AnswerFormat(), description="Where the answer holds the image.")
    poll: Poll | None = Field(
        None, description="How the result is asked for, if the API has a queue."
    )
    cancel: Cancel | None = Field(None, description="How queued work is cancelled, if the API can.")
    health_path: str | None = Field(
        None, description="The path whose GET answers 2xx while the API is available."
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="The values of further placeholders, such as a prompt."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("preset"), str):
            return merge(load_preset(data["preset"]), data)
        return data

    @model_validator(mode="after")
    def _placeholders(self) -> Self:
        unknown = self.request.placeholders - Request.BUILT_IN - set(self.parameters)
        if unknown:
            raise ValueError(f"no value for {{{min(unknown)}}}: set it under `parameters`")
        if self.mask_color is None and self.request.placeholders & Request.OF_MASK:
            raise ValueError("the request has a mask: set mask_color")
        if self.mask_field is not None and self.request.form != "multipart":
            raise ValueError("mask_field is a part of a multipart form; use {mask_data_uri} here")
        if self.seed is not None and "seed" not in self.request.placeholders:
            raise ValueError("`seed` is described, but the request has no {seed}")
        if self.seed is None and "seed" in self.request.placeholders:
            raise ValueError("the request has {seed}: describe its range under `seed`")
        return self


class HttpUpscaler(Adapter[HttpConfig]):
    """An upscaler behind a described HTTP API."""

    def _takes_seeds(self) -> bool:
        return self._config.seed is not None

    async def _identify(self) -> dict[str, Any]:
        if self._config.health_path is not None:
            reply = await self._upstream.request("GET", self._config.health_path)
            if not reply.ok:
                raise self._failure(reply)
        return {}

    async def _sample(self, source: Source, seed: int, permit: MemoryPermit) -> RGB:
        reply = await self._call(source, seed, permit)
        if self._config.answer.image == "body":
            return await self._reader.read(reply.body, source, permit)
        where = self._config.answer.pointer
        images = (image for image in find_all(reply.document, where) if isinstance(image, str))
        image = next(images, None)
        if image is None:
            reason = explanation(reply, self._config.answer.error_text)
            raise NoImage(self.name, where, reply.document, reason)
        return await self._reader.read_text(image, source, permit)

    async def _call(self, source: Source, seed: int, permit: MemoryPermit) -> Reply:
        request, config = self._config.request, self._config
        values = await asyncio.to_thread(self._values, source, seed)
        arguments: dict[str, Any] = {}
        if request.form == "raw":
            arguments["content"] = source.png
            arguments["headers"] = {"Content-Type": "image/png"}
        elif request.form == "json":
            arguments["json"] = fill(request.body, values)
        else:
            arguments["data"] = _texts(request.fields, values)
            arguments["files"] = {request.image_field: ("image.png", source.png, "image/png")}
            if config.mask_field is not None and config.mask_color is not None:
                mask = await asyncio.to_thread(mask_png, source, config.mask_color)
                arguments["files"][config.mask_field] = ("mask.png", mask, "image/png")
        if request.query:
            arguments["params"] = _texts(request.query, values)
        path = fill_path(request.path, values)
        if config.poll is None:
            reply = await self._upstream.request(request.method, path, permit=permit, **arguments)
            await self._parse(reply)
            self._raise_for(reply)
            return reply
        submitted = await self._started(
            self._upstream.request(request.method, path, **arguments), self._cancelled
        )
        self._raise_for(submitted)
        return await self._polled(config.poll, submitted, permit)

    def _values(self, source: Source, seed: int) -> dict[str, Any]:
        """The values of the placeholders; only images that are used are encoded."""
        config, k = self._config, self._config.scale
        values: dict[str, Any] = {
            **config.parameters,
            "scale": k, "width": source.width, "height": source.height,
            "out_width": k * source.width, "out_height": k * source.height,
        }  # fmt: skip
        if config.seed is not None:
            values["seed"] = config.seed.map(seed)
        placeholders = config.request.placeholders
        if placeholders & {"image_b64", "image_data_uri"}:
            uri = data_uri(source.png)
            values |= {"image_data_uri": uri, "image_b64": uri.partition(",")[2]}
        if config.mask_color is not None and placeholders & Request.OF_MASK:
            uri = data_uri(mask_png(source, config.mask_color))
            values |= {"mask_data_uri": uri, "mask_b64": uri.partition(",")[2]}
        if config.request.form != "json":
            _ = source.png  # encoded here, in a thread
        return values

    async def _polled(self, poll: Poll, submitted: Reply, permit: MemoryPermit) -> Reply:
        """Poll until the generation is done; cancel it when the caller leaves."""
        document = submitted.json()
        status_url = self._link(document, poll.url_pointer, poll.path, poll.id_pointer)
        try:
            while True:
                reply = await self._ask(status_url, poll.interval_s, permit)
                if not reply.ok:
                    raise self._failure(reply)
                failed = any(_holds(condition, reply) for condition in poll.failed)
                if failed or all(_holds(condition, reply) for condition in poll.done):
                    break
        except (asyncio.CancelledError, UpscalerError):
            self._cancel_in_background(self._cancelled(submitted))
            raise
        if failed:
            raise GenerationFailed(f"{self.name!r} failed: {self._reason(reply)}")
        if poll.result_url_pointer is not None:
            url = self._link(document, poll.result_url_pointer, None, "")
            reply = await self._upstream.request("GET", url, permit=permit)
        await self._parse(reply)
        self._raise_for(reply)
        return reply

    async def _cancelled(self, submitted: Reply) -> None:
        """Cancel what was submitted, if the settings say how. Raises UpscalerError."""
        cancel, poll = self._config.cancel, self._config.poll
        if cancel is not None and poll is not None:
            document = submitted.document
            url = self._link(document, cancel.url_pointer, cancel.path, poll.id_pointer)
            await self._upstream.request(cancel.method, url)

    def _link(
        self, document: Any, url_pointer: str | None, path: str | None, id_pointer: str
    ) -> str:
        if url_pointer is not None:
            url = first(document, url_pointer)
            if isinstance(url, str) and url:
                return self._upstream.url(url)
        elif path is not None:
            identifier = first(document, id_pointer)
            if isinstance(identifier, str | int) and str(identifier) not in {"", ".", ".."}:
                return fill_path(path, {"id": identifier})
        raise ProtocolError(f"{self.name!r} did not say where to ask for the result.")

    def _raise_for(self, reply: Reply) -> None:
        answer = self._config.answer
        for conditions, kind, meaning in (
            (answer.quota, QuotaSpent, "has no credit left"),
            (answer.rejected, UpscalerRejected, "refuses this input"),
            (answer.filtered, Filtered, "withheld a sample"),
        ):
            if any(_holds(condition, reply) for condition in conditions):
                raise kind(f"{self.name!r} {meaning}: {self._reason(reply)}")
        if not reply.ok:
            raise self._failure(reply)
        if any(_holds(condition, reply) for condition in answer.failed) or not all(
            _holds(condition, reply) for condition in answer.success
        ):
            raise GenerationFailed(f"{self.name!r} failed: {self._reason(reply)}")

    def _failure(self, reply: Reply) -> UpscalerError:
        answer = self._config.answer
        error = failure(
            reply, self.name, error_text=answer.error_text, wait_429=answer.rate_limit_wait_s
        )
        # Hugging Face: how long the model takes to load.
        seconds = seconds_of(first(reply.document, "/estimated_time"))
        if isinstance(error, UpscalerUnavailable) and seconds is not None:
            error.retry_after = min(seconds, 60.0)
        return error

    def _reason(self, reply: Reply) -> str:
        reason = explanation(reply, self._config.answer.error_text)
        return reason or f"no explanation, status {reply.status}"


def _holds(condition: Condition, reply: Reply) -> bool:
    if condition.status is not None:
        return reply.status in condition.status
    if condition.header is not None:
        value: Any = reply.headers.get(condition.header.lower())
    else:
        assert condition.pointer is not None  # noqa: S101 - one of the three is given
        value = first(reply.document, condition.pointer)
    if condition.is_in is None:
        return bool(value)
    return value in condition.is_in


def _texts(fields: dict[str, Any], values: dict[str, Any]) -> dict[str, str]:
    """Fields of a form or query, with booleans as JSON spells them."""
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in fill(fields, values).items()
    }


def preset_names() -> list[str]:
    """Return the names of the shipped presets."""
    files = resources.files("trustscale_server.upscalers").joinpath("presets").iterdir()
    return sorted(
        name.removesuffix(".toml") for file in files if (name := file.name).endswith(".toml")
    )


def load_preset(name: str) -> dict[str, Any]:
    """Return the settings of one preset. Raises ValueError, listing them, if there is none."""
    if name not in preset_names():
        raise ValueError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    file = resources.files("trustscale_server.upscalers").joinpath("presets", f"{name}.toml")
    return tomllib.loads(file.read_text("utf-8"))


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge the values of `over` into `base`, tables key by key."""
    merged = dict(base)
    for key, value in over.items():
        current = merged.get(key)
        are_tables = isinstance(current, dict) and isinstance(value, dict)
        merged[key] = merge(current, value) if are_tables and current is not None else value
    return merged


def fill_path(path: str, values: dict[str, Any]) -> str:
    """Fill the placeholders of a URL path; values cannot add segments or a query."""
    return PLACEHOLDER.sub(
        lambda match: quote(str(values[match.group(1)]), safe="", errors="replace"), path
    )


def _names(tree: Any) -> frozenset[str]:
    if isinstance(tree, str):
        return frozenset(PLACEHOLDER.findall(tree))
    if isinstance(tree, dict):
        return _names(list(tree.values()))
    if isinstance(tree, list | tuple):
        return frozenset().union(*(_names(branch) for branch in tree))
    return frozenset()
