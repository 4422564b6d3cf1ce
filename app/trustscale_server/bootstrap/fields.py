"""What can be set, each with its default and a sentence."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import platformdirs
from pydantic import (
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from trustscale_server.bootstrap.sources import ENV_PREFIX, named_key
from trustscale_server.serving.request import Leaving
from trustscale_server.upscalers.config import BaseUrl, UpscalerName
from trustscale_server.upscalers.embedded.runtime import PrecisionSetting
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedConfig
from trustscale_server.upscalers.outbound.webhooks import secret_of
from trustscale_server.upscalers.registry import UpscalerConfig
from trustscale_server.upscalers.remote.worker import WorkerConfig


def default_text(default: str) -> dict[str, Any]:
    """Return a default for docs/settings.md that is not a value."""
    return {"default": default}


def _embedded_default() -> list[UpscalerConfig]:
    return [EmbeddedConfig(name=name, model=name) for name in SHIPPED_MODELS]


_SHORTEST_KEY: Final = 8  # of an admin


def _in_bytes(value: Any) -> Any:
    """From text such as `32MB` or `1GiB`."""
    return int(_BYTES.validate_python(value)) if isinstance(value, str) else value


_BYTES: Final = TypeAdapter(ByteSize)
Bytes = Annotated[int, BeforeValidator(_in_bytes)]

# At most 31 years: more overflows dates and timers.
Seconds = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


DEFAULT_ROUTING: Final = MappingProxyType({"lossless": "span-x4", "*": "realesr-x4-safe"})
"""`auto`: patterns of classes and their upscalers; the first match counts.

Of what is not farther from the truth than a plain enlargement, on average over a class, that with
the largest mask (`benchmarks/auto.py`). SPAN is the nearest for clean input, but turns traces of
compression and noise into wires and grain.
"""


class SettingFields(BaseSettings):
    """The settings, each checked for itself."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    data_dir: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("trustscale"),
        description="The folder that holds the database, results, uploads and the admin key.",
        json_schema_extra=default_text("the platform's user data folder"),
    )
    store: str = Field(
        "sqlite:///",
        description="The database of calibrations, jobs and keys: `sqlite:///PATH` (without a PATH "
        "it lies in the data folder) or `redis://…`.",
    )
    queue: str = Field(
        "memory://",
        description="The queue of jobs. With `memory://` the gateway runs them itself, with "
        "`redis://…` `trustscale jobs` does.",
    )
    blobs: str | None = Field(
        None,
        description="Where results and uploads are stored: `file:///PATH`, `s3://BUCKET/PREFIX`, "
        "`gs://…` or `az://CONTAINER/…`. All processes must name the same place.",
        json_schema_extra=default_text("in the data folder"),
    )
    presigned_links: bool = Field(
        True,
        description="Whether clients exchange files with the object store directly, by links that "
        "expire.",
    )

    worker_urls: Annotated[dict[UpscalerName, tuple[BaseUrl, ...]], NoDecode] = Field(
        default_factory=dict,
        description="Model workers as `[NAME=]URL`, in addition to `upscalers`. Workers of one "
        "name (`worker` if none is given) must serve the same model.",
    )
    upscalers: list[UpscalerConfig] = Field(
        default_factory=_embedded_default,
        min_length=1,
        validate_default=True,
        description="The upscalers that the service offers, as a list of the entries below.",
        json_schema_extra=default_text("the shipped models"),
    )
    default_upscaler: str | None = Field(
        None,
        description="The upscaler that answers requests which name none.",
        json_schema_extra=default_text("`auto` if its upscalers are configured, else the first"),
    )
    routing: dict[str, UpscalerName] = Field(
        default_factory=lambda: dict(DEFAULT_ROUTING),
        description="The upscaler for each pattern of upload classes. "
        "[`auto`](upscalers.md#embedded) uses the first pattern that matches an upload.",
    )
    precision: PrecisionSetting = Field(
        "auto",
        description="The precision in which [embedded models](upscalers.md#embedded) compute. "
        "`auto` takes bfloat16 if the processor has it, else float32.",
    )

    client_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list,
        description="The API keys of clients, each `[NAME:]KEY`. Without any, the API is open to "
        "everybody. Keys of the same NAME, which logs show, count as one client.",
    )
    admin_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list,
        description="The API keys of administrators, in the same form.",
        json_schema_extra=default_text("one made at the first start"),
    )

    max_upload_bytes: Bytes = Field(
        32 * 1024 * 1024,
        gt=0,
        description="The largest image file that is accepted, in bytes or as `32MB`.",
    )
    max_input_pixels: int = Field(
        24 * 1024 * 1024,
        gt=0,
        description="The largest image that is accepted, in pixels. Unless it is set, it is at "
        "most `client_pixels_per_minute`.",
    )
    max_in_flight: int = Field(
        2,
        gt=0,
        description="How many requests, or jobs of a `trustscale jobs` process, generate samples "
        "at the same time, besides those of remote upscalers, whose calls in flight are bounded. "
        "Above 1, another client gets one more while one holds all.",
    )
    max_waiting: int = Field(
        16,
        ge=0,
        description="How many requests may wait for a slot. Further ones get 503 with Retry-After.",
    )
    max_in_flight_bytes: Bytes | None = Field(
        None,
        gt=0,
        description="How much memory all generating requests may use together, in bytes "
        "([arithmetic](sizing.md#memory)). An image that needs more alone gets 413.",
        json_schema_extra=default_text("half of the container's or machine's memory"),
    )
    max_queued_jobs: int = Field(
        100,
        gt=0,
        description="How many upscaling jobs may be unfinished. Further ones get 503, as do those "
        "of a client that has as many as places are left: half of all, if it is alone.",
    )
    client_requests_per_minute: int | None = Field(
        None,
        gt=0,
        description="How many upscalings and drawings one client may ask for in a minute; more get "
        "429. In an open API each address is one client.",
    )
    client_pixels_per_minute: int | None = Field(
        None,
        gt=0,
        description="How many input pixels one client may send in a minute; more get 429.",
    )
    request_timeout_s: Seconds = Field(
        600.0,
        description="Time limit for the samples of a request, in seconds. One that would take "
        "longer is refused at once.",
    )
    result_ttl_s: Seconds = Field(3600.0, description="How long results are kept, in seconds.")
    shared_result_ttl_s: Seconds = Field(
        30 * 86400.0,
        description="How long results are kept whose owner has shared their page, in seconds.",
    )
    image_url_allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Hosts, with their subdomains, from which clients may have pictures fetched by "
        "`image_url`. Addresses are checked like those of [webhooks](security.md#webhooks).",
    )
    webhook_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Hosts, with their subdomains, that may be "
        "[notified when a job ends](security.md#webhooks).",
    )
    webhook_secrets: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list,
        description="The secrets (`whsec_…`) that sign notifications. Each adds a signature.",
    )
    allow_private_networks: Annotated[
        list[Literal["connect", "image_url", "webhooks"]], NoDecode
    ] = Field(
        default_factory=list,
        description="Who may name private addresses, and use http: `image_url`, `webhooks`, and "
        "administrators who [`connect`](upscalers.md#connect-one-by-its-address) an upscaler.",
    )
    faces: Leaving = Field(
        "leave_out",
        description="Whether faces are [left out](promise.md#faces-and-letters) of masks, unless a "
        "request says it. `keep` looks for none.",
    )
    letters: Leaving = Field(
        "leave_out",
        description="The same of text that no calibration for words calls right, with the extra "
        "`text`.",
    )
    credentials: SecretStr | None = Field(
        None,
        description="The certificate chain and its private key (PEM) that "
        "[sign pictures](deployment.md#content-credentials).",
    )
    max_result_bytes: Bytes = Field(
        4 * 1024**3,
        gt=0,
        description="The total size of kept results, in bytes. Beyond it the oldest are removed.",
    )
    embedded_job_worker: bool | None = Field(
        None,
        description="Whether the gateway runs jobs in its own process.",
        json_schema_extra=default_text("with `queue=memory://` only"),
    )
    job_concurrency: int = Field(
        2, gt=0, description="How many calibration pairs one process measures at the same time."
    )
    job_ttl_s: Seconds = Field(
        7 * 86400.0,
        description="How long ended jobs and uploads of calibrations are kept, in seconds, and "
        "jobs that wait for labels and get none.",
    )

    pages: bool = Field(True, description="Whether `serve` offers [web pages](page.md) at `/`.")
    path_prefix: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="The path [below which a proxy offers the service]"
        "(deployment.md#below-a-path), such as `/trust`; pages, links and `Location` name it.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="The least severe events that are logged: `debug`, `info`, `warning` or "
        "`error`.",
    )

    @field_validator("worker_urls", mode="before")
    @classmethod
    def _addresses(cls, value: Any) -> Any:
        """From `[NAME=]URL,…`."""
        if not isinstance(value, str):
            return value
        addresses: dict[str, list[str]] = {}
        for entry in filter(None, map(str.strip, value.split(","))):
            name, separator, url = entry.partition("=")
            addresses.setdefault(name if separator else "worker", []).append(url or name)
        return addresses

    @field_validator("upscalers")
    @classmethod
    def _with_workers(
        cls, upscalers: list[UpscalerConfig], info: ValidationInfo
    ) -> list[UpscalerConfig]:
        workers = info.data.get("worker_urls", {})
        return [*upscalers, *(WorkerConfig(name=name, urls=urls) for name, urls in workers.items())]

    @field_validator(
        "client_keys",
        "admin_keys",
        "webhook_secrets",
        "webhook_hosts",
        "image_url_allowed_hosts",
        "allow_private_networks",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        """From an environment variable, by commas."""
        if isinstance(value, str):
            return [key.strip() for key in value.split(",")] if value.strip() else []
        return value

    @field_validator("upscalers", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        """Entries, not the one table that `[upscalers]` makes."""
        if isinstance(value, dict):
            hint = "each has an entry of its own: [[upscalers]], in two brackets"
            raise ValueError(hint)  # noqa: TRY004 - pydantic reports no TypeError
        return value

    @field_validator("admin_keys")
    @classmethod
    def _long_enough(cls, keys: list[SecretStr]) -> list[SecretStr]:
        """Keys that nobody finds by trying."""
        if any(len(named_key(key.get_secret_value())[1]) < _SHORTEST_KEY for key in keys):
            raise ValueError(f"an admin key is shorter than {_SHORTEST_KEY} characters")
        return keys

    @field_validator("client_keys", "admin_keys")
    @classmethod
    def _usable(cls, keys: list[SecretStr]) -> list[SecretStr]:
        """Keys without surrounding white space, which a header does not carry."""
        texts = [key.get_secret_value().strip() for key in keys]
        # An empty key, of a variable set to nothing, would let everybody in.
        if not all(named_key(text)[1] for text in texts):
            raise ValueError("a key is empty")
        if not all(text.isascii() and text.isprintable() for text in texts):
            raise ValueError("a key has a letter that a header cannot carry")
        return [SecretStr(text) for text in texts]

    @field_validator("webhook_secrets")
    @classmethod
    def _signing(cls, secrets: list[SecretStr]) -> list[SecretStr]:
        for secret in secrets:
            secret_of(secret.get_secret_value())
        return secrets
