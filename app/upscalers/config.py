"""Settings that all `[[upscalers]]` entries share; those of a kind are beside its adapter.

They hold no secrets: `token_env` names the environment variable that holds the token.
"""

from __future__ import annotations

from pathlib import Path
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

from trustscale_server.images.drawings import Color
from trustscale_server.outbound.guard import http_url
from trustscale_server.upscalers.runtime import SHIPPED, Character, PrecisionSetting, ShippedName

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderValue = Annotated[str, Field(pattern=r"^([!-~]([\t -~]*[!-~])?)?$")]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")]


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.username or parts.password:
        raise ValueError("no credentials in a URL: put the token into the variable of `token_env`")
    if parts.query or parts.fragment:
        raise ValueError("no query and no fragment in the address of an upscaler")
    try:
        http_url(value)
    except ValueError as error:
        raise ValueError(
            f"an address with http:// or https:// is needed; this is {error}"
        ) from error
    return value.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url)]
CanaryPolicy = Literal["off", "warn", "refuse"]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: Name = Field(description="Name in requests and answers.")
    price_per_call: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Price of a call, in any currency; shown by `GET /v1/upscalers` and the "
        "backtest, counted by `GET /v1/admin/usage`.",
    )
    title: str | None = Field(None, max_length=80, description="Name for people.")
    character: Character | None = Field(
        None, description="For people: `faithful` hardly invents, soft; `sharp` repaints, crisp."
    )

    @property
    def shown(self) -> tuple[str, Character | None]:
        return self.title or self.name, self.character


class EmbeddedConfig(_Config):
    """An ONNX model inside this process."""

    kind: Literal["embedded"] = "embedded"
    model: ShippedName | Path = Field(
        "span-x4",
        description="The shipped `span-x4` or `realesr-x4`, or an ONNX file.",
    )
    threads: int = Field(0, ge=0, description="Threads; 0: one per core.")
    tile: PositiveInt | None = Field(None, description="Largest side of a tile, input pixels.")
    halo: int | None = Field(None, ge=0, description="Overlap of tiles, input pixels.")
    concurrency: PositiveInt = Field(1, description="Samples made at once; threads are divided.")
    precision: PrecisionSetting | None = Field(
        None, description="Of the network; default: the service's."
    )

    @property
    def shown(self) -> tuple[str, Character | None]:
        if isinstance(self.model, Path):
            return super().shown
        shipped = SHIPPED[self.model]
        return self.title or shipped.title, self.character or shipped.character


class RemoteConfig(_Config):
    """What every upscaler behind HTTP has.

    `KEEPS_CONNECTIONS`: whether calls share connections. `HOW_TO_CALL` names the settings that say
    how to call; the fingerprint covers all others, since they say what is computed.
    """

    KEEPS_CONNECTIONS: ClassVar[bool] = True
    HOW_TO_CALL: ClassVar[frozenset[str]] = frozenset(
        {
            "name", "title", "character", "price_per_call", "token_env", "token_header",
            "token_scheme", "fingerprint_alias", "max_input_pixels", "concurrency",
            "call_timeout_s", "max_attempts", "max_calls_per_hour", "cold_start_s", "allowed_hosts",
            "allow_private",
            "max_answer_bytes", "alignment", "canary",
        }
    )  # fmt: skip

    token_env: EnvName | None = Field(
        None,
        description="Environment variable with the token, which goes to the configured address "
        "and nowhere else, over TLS (but to loopback, or with `allow_private`).",
    )
    token_header: HeaderName = Field("Authorization", description="How the token is sent.")
    token_scheme: HeaderValue = Field(
        "Bearer",
        description="Word before the token; `Basic` encodes `user:password`; empty: none.",
    )
    headers: dict[HeaderName, HeaderValue] = Field(
        default_factory=dict, description="Further headers; no secrets."
    )

    fingerprint_alias: str | None = Field(
        None,
        description="Stands for the address in the fingerprint: set it if the same model may move.",
    )
    max_input_pixels: PositiveInt | None = Field(
        None, description="Larger inputs are refused before anything is sent."
    )
    concurrency: PositiveInt = Field(
        4,
        description="Calls in flight over all requests of this process; reduced when "
        "the server says that it is busy.",
    )
    call_timeout_s: PositiveFloat = Field(120.0, description="Longest time of one generation.")
    max_attempts: PositiveInt = Field(8, description="Tries of one call, the first one included.")
    max_calls_per_hour: PositiveInt | None = Field(
        None, description="Spend limit of all processes that share a store."
    )
    cold_start_s: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="How long a call waits for an absent upscaler, within the deadline of its "
        "request: for one that is started by load.",
    )

    allowed_hosts: tuple[HostName, ...] = Field(
        (),
        description="Hosts, with their subdomains, that results may be fetched from over https, "
        "besides the configured address; redirects are not followed.",
    )
    allow_private: bool = Field(
        False, description="Results may be fetched from private addresses, also without TLS."
    )
    max_answer_bytes: PositiveInt = Field(
        256 * 2**20,
        description="Longest answer; of hosted APIs at most 8 MB and what pictures of the expected "
        "size need as base64.",
    )
    alignment: Literal["refuse", "ignore"] = Field(
        "refuse",
        description="`ignore`: accept samples that are not aligned with the input.",
    )
    canary: CanaryPolicy = Field(
        "warn",
        description="`off`, `warn` or `refuse` "
        "[when the model seems to have changed](upscalers.md#when-the-provider-changes-the-model).",
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        return (str(getattr(self, "url", "")),)

    @model_validator(mode="after")
    def _secrets(self) -> Self:
        secret = [name for name in self.headers if name.lower() in _SECRET_HEADERS]
        if secret:
            raise ValueError(f"header {secret[0]} is a secret: use token_env and token_header")
        for url in self.addresses:
            parts = urlsplit(url)
            if (
                self.token_env
                and parts.scheme == "http"
                and parts.hostname not in _LOOPBACK
                and not self.allow_private
            ):
                raise ValueError(
                    f"the token would be sent to {parts.hostname} without TLS: use https, or set "
                    "allow_private if this is a network of yours"
                )
        return self


class OneAddress(RemoteConfig):
    """What every upscaler at one address has."""

    HOW_TO_CALL = RemoteConfig.HOW_TO_CALL | {"url"}

    url: BaseUrl = Field(description="Its address.")
    scale: PositiveInt = Field(description="Output side divided by input side.")
    fit: Literal["exact", "resize"] = Field(
        "exact",
        description="`resize`: bring samples of the right aspect ratio to the wanted size.",
    )
    mask_color: Color | None = Field(
        None,
        description="[Inpainting](restoration.md#inpainting): pixels of exactly this colour, such "
        'as `"#ff00ff"`, are the holes.',
    )
    mask_field: str | None = Field(
        None,
        description="Kinds `cog`, `replicate` and `http` forms: the field in which the holes are "
        "also sent, as a PNG that is white there.",
    )

    @model_validator(mode="after")
    def _mask(self) -> Self:
        if self.mask_field is not None and self.mask_color is None:
            raise ValueError("mask_field sends the pixels of mask_color: set that too")
        return self
