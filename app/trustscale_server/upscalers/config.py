"""Settings that all `[[upscalers]]` entries share; those of a kind are beside its adapter.

They hold no secrets: `token_env` names the environment variable that holds the token.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from trustscale_server.kinds.holes import HexColor
from trustscale_server.upscalers.outbound.guard import http_url

UpscalerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
_HeaderValue = Annotated[str, Field(pattern=r"^([!-~]([\t -~]*[!-~])?)?$")]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")]


def _base_url(url: str) -> str:
    split = urlsplit(url)
    if split.username or split.password:
        raise ValueError("no credentials in a URL: put the token into the variable of `token_env`")
    if split.query or split.fragment:
        raise ValueError("no query and no fragment in the address of an upscaler")
    try:
        http_url(url)
    except ValueError as error:
        raise ValueError(
            f"an address with http:// or https:// is needed; this is {error}"
        ) from error
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url)]
CanaryPolicy = Literal["off", "warn", "refuse"]

Character = Literal["faithful", "sharp"]
"""Faithful: hardly invents, soft. Sharp: repaints, crisp."""


class EntryConfig(BaseModel):
    """Settings of every upscaler."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: UpscalerName = Field(description="The name of the upscaler in requests and answers.")
    price_per_call: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="The price of one call, in any currency, for estimates and `/metrics`.",
    )
    align_colours: bool = Field(
        True,
        description="Whether pictures get the colours of the upload, of which the model keeps what "
        "is finer than the upload's pixels (`false`: they stay as the model made them).",
    )

    @property
    def title_and_character(self) -> tuple[str, Character | None]:
        """The name for people, and what they are told of its pictures, if that is known."""
        return self.name, None


class RemoteConfig(EntryConfig):
    """Settings of every upscaler behind HTTP.

    `KEEPS_CONNECTIONS`: whether calls share connections. `MAX_ANSWER_BYTES`: longer answers are
    refused, those of hosted APIs earlier (8 MB and what the pictures need). `HOW_TO_CALL` names the
    settings that say how to call; the fingerprint covers all others, since they say what is
    computed.
    """

    KEEPS_CONNECTIONS: ClassVar[bool] = True
    MAX_ANSWER_BYTES: ClassVar[int] = 256 * 2**20
    HOW_TO_CALL: ClassVar[frozenset[str]] = frozenset(
        {
            "name", "price_per_call", "token_env", "token_header",
            "token_scheme", "fingerprint_alias", "max_input_pixels", "concurrency",
            "call_timeout_s", "max_calls_per_hour", "cold_start_s", "allowed_hosts",
            "allow_private", "canary", "align_colours",
        }
    )  # fmt: skip

    token_env: EnvName | None = Field(
        None,
        description="The environment variable that holds the token, which is sent to the "
        "configured address only, and over TLS except to loopback or with `allow_private`.",
    )
    token_header: _HeaderName = Field(
        "Authorization", description="The header in which the token is sent."
    )
    token_scheme: _HeaderValue = Field(
        "Bearer",
        description="The word before the token, or nothing if empty. With `Basic`, the token "
        "`user:password` is encoded.",
    )
    headers: dict[_HeaderName, _HeaderValue] = Field(
        default_factory=dict, description="Further headers of each call. They may hold no secrets."
    )

    fingerprint_alias: str | None = Field(
        None,
        description="Replaces the address in the fingerprint, so that calibrations stay valid when "
        "the same model moves.",
    )
    max_input_pixels: PositiveInt | None = Field(
        None,
        description="The largest input that the upscaler takes, in pixels.",
    )
    concurrency: PositiveInt = Field(
        4,
        description="How many calls one process has in flight; fewer while the server is busy.",
    )
    call_timeout_s: PositiveFloat = Field(120.0, description="Time limit for one call, in seconds.")
    max_calls_per_hour: PositiveInt | None = Field(
        None,
        description="How many calls all processes that share a store may make in an hour.",
    )
    cold_start_s: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="How long a call waits for an upscaler that starts on demand, in seconds, "
        "within the deadline of its request.",
    )

    allowed_hosts: tuple[HostName, ...] = Field(
        (),
        description="Hosts, with their subdomains, from which results may be fetched over https, "
        "besides the configured address.",
    )
    allow_private: bool = Field(
        False,
        description="Whether results may be fetched from private addresses, also without TLS.",
    )
    canary: CanaryPolicy = Field(
        "warn",
        description="What happens "
        "[when the model seems to have changed](upstream.md#when-the-provider-changes-the-model): "
        "nothing (`off`), a warning (`warn`), or no answers (`refuse`).",
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        return (str(getattr(self, "url", "")),)

    @property
    def slots(self) -> int:
        """How many of its requests run at once: with a call of each, all its workers work."""
        return self.concurrency * len(self.addresses)

    @model_validator(mode="after")
    def _secrets(self) -> Self:
        for name in self.headers:
            if name.lower() in {"authorization", "proxy-authorization", "cookie", "x-api-key"}:
                raise ValueError(f"header {name} is a secret: use token_env and token_header")
        for url in self.addresses:
            split = urlsplit(url)
            if (
                self.token_env
                and split.scheme == "http"
                and split.hostname not in {"localhost", "127.0.0.1", "::1"}
                and not self.allow_private
            ):
                raise ValueError(
                    f"the token would be sent to {split.hostname} without TLS: use https, or set "
                    "allow_private if this is a network of yours"
                )
        return self


class OneAddress(RemoteConfig):
    """Settings of every upscaler at one address."""

    HOW_TO_CALL = RemoteConfig.HOW_TO_CALL | {"url"}

    url: BaseUrl = Field(description="The address of the upscaler.")
    scale: PositiveInt = Field(description="How many times longer the output's sides are.")
    resize_mode: Literal["exact", "resize"] = Field(
        "exact",
        description="What happens to samples of another size: `exact` refuses them, `resize` "
        "scales those of the right aspect ratio.",
    )
    mask_color: HexColor | None = Field(
        None,
        description='The colour, such as `"#ff00ff"`, that marks the holes for '
        "[inpainting](restoration.md#inpainting).",
    )
    mask_field: str | None = Field(
        None,
        description="The field in which `cog`, `replicate` and `http` forms also get the holes, as "
        "a PNG that is white there.",
    )

    @model_validator(mode="after")
    def _mask(self) -> Self:
        if self.mask_field is not None and self.mask_color is None:
            raise ValueError("mask_field sends the pixels of mask_color: set that too")
        return self
