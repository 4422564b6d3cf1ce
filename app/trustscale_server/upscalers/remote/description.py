"""Settings that describe any HTTP API as data; presets hold those of well-known ones.

There are no expressions, and of an answer only links and ids enter a request.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, model_validator

from trustscale_server.upscalers.config import OneAddress
from trustscale_server.upscalers.pointers import Pointer
from trustscale_server.upscalers.remote.placeholders import names_in
from trustscale_server.upscalers.remote.presets import load_preset, merge


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
        return names_in([self.path, self.body, self.fields, self.query])


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
