"""How data describes an HTTP API: the models behind kind `http`.

A string that is one placeholder takes the value with its type, so `"{seed}"` becomes a JSON number;
inside a longer string it becomes text. There are no expressions, and of an answer only links and
ids enter a request. Descriptions of well-known APIs are in `presets/`.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from app.upscalers import pointer

_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")

Pointer = Annotated[
    str, AfterValidator(pointer.checked), Field(description="JSON pointer, RFC 6901.")
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Condition(_Part):
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


class Request(_Part):
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


class SeedField(_Part):
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


class Answer(_Part):
    """Where the image is, and which answers of status 2xx fail."""

    image: Literal["body", "json"] = "body"
    pointer: Pointer = Field("", description="Where the image is: base64, data URI or URL.")
    filtered: tuple[Condition, ...] = Field((), description="Any: a filter withheld the sample.")
    failed: tuple[Condition, ...] = Field((), description="Any: the model failed.")
    rejected: tuple[Condition, ...] = Field((), description="Any: this input can never succeed.")
    quota: tuple[Condition, ...] = Field((), description="Any: the account has no credit left.")
    error_text: tuple[Pointer, ...] = Field((), description="Where errors are explained.")
    rate_limit_wait_s: PositiveFloat | None = Field(
        None, description="How long to wait after 429 without Retry-After."
    )


class Poll(_Part):
    """Submit, poll, fetch; URLs of an answer must be on the upscaler's host."""

    url_pointer: Pointer | None = Field(None, description="Status URL in the submit answer.")
    path: str | None = Field(None, description="Or: path with {id}, appended to the url.")
    id_pointer: Pointer = "/id"
    interval_s: PositiveFloat = 1.0
    done: tuple[Condition, ...] = (Condition(status=(200,)),)
    failed: tuple[Condition, ...] = ()
    result_url_pointer: Pointer | None = Field(
        None, description="Result URL in the submit answer; none: the last poll has the image."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url_pointer is None) == (self.path is None):
            raise ValueError("poll needs url_pointer or path")
        return self


class Cancel(_Part):
    """How a submitted generation is cancelled."""

    method: Literal["POST", "PUT", "DELETE"] = "POST"
    url_pointer: Pointer | None = None
    path: str | None = Field(None, description="Path with {id}, appended to the url.")


def preset_names() -> list[str]:
    """The names of the shipped presets."""
    files = resources.files("app.upscalers").joinpath("presets").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files)


def load_preset(name: str) -> dict[str, Any]:
    """The settings of one preset. Raises ValueError, listing them, if there is none."""
    if name not in preset_names():
        raise ValueError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    file = resources.files("app.upscalers").joinpath("presets", f"{name}.toml")
    return tomllib.loads(file.read_text("utf-8"))


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, tables merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = merge(old, value) if both and old is not None else value
    return merged


def fill(tree: Any, values: dict[str, Any]) -> Any:
    """The tree with placeholders replaced; KeyError if one has no value."""
    if isinstance(tree, dict):
        return {key: fill(item, values) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [fill(item, values) for item in tree]
    if not isinstance(tree, str):
        return tree
    whole = _PLACEHOLDER.fullmatch(tree)
    if whole:
        return values[whole.group(1)]
    return _PLACEHOLDER.sub(lambda match: str(values[match.group(1)]), tree)


def fill_path(path: str, values: dict[str, Any]) -> str:
    """A URL path with placeholders replaced; values cannot add segments or a query."""
    return _PLACEHOLDER.sub(
        lambda match: quote(str(values[match.group(1)]), safe="", errors="replace"), path
    )


def _names(tree: Any) -> frozenset[str]:
    if isinstance(tree, str):
        return frozenset(_PLACEHOLDER.findall(tree))
    if isinstance(tree, dict):
        return _names(list(tree.values()))
    if isinstance(tree, list | tuple):
        return frozenset().union(*(_names(item) for item in tree))
    return frozenset()
