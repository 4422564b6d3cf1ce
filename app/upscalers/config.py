"""Settings of one `[[upscalers]]` entry, one class per kind.

These classes describe and check; `app/upscalers/registry.py` builds. Secrets never appear here:
`token_env` names the environment variable that holds the token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from app.images.holes import Color
from app.upscalers.presets import load_preset, merge
from app.upscalers.template import Answer, Cancel, Poll, Request, SeedField

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")]


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("a URL that starts with http:// or https:// is needed")
    if parts.username or parts.password:
        raise ValueError("no credentials in a URL: put the token into the variable of `token_env`")
    if parts.query or parts.fragment:
        raise ValueError("no query and no fragment in the address of an upscaler")
    return value.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url)]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    name: Name
    price_per_call: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="What a call costs, in any currency."
    )


class EmbeddedConfig(_Config):
    """An ONNX model inside this process."""

    kind: Literal["embedded"] = "embedded"
    model: Path | None = Field(None, description="ONNX file; none: the model that is shipped.")
    threads: int = Field(0, ge=0, description="Threads; 0: one per core.")
    tile: PositiveInt | None = Field(None, description="Largest side of a tile, input pixels.")
    halo: int | None = Field(None, ge=0, description="Overlap of tiles, input pixels.")
    concurrency: PositiveInt = Field(1, description="Samples made at once; threads are divided.")


class RemoteConfig(_Config):
    """What every upscaler behind HTTP has."""

    token_env: EnvName | None = Field(None, description="Environment variable with the API token.")
    token_header: str = "Authorization"  # noqa: S105 - the name of a header
    token_scheme: str = Field("Bearer", description="Word before the token; empty: none.")
    headers: dict[str, str] = Field(
        default_factory=dict, description="Further headers; no secrets."
    )

    identity: str | None = Field(
        None,
        description="Stands for the address in the fingerprint, so that the same model can move.",
    )
    max_input_pixels: PositiveInt | None = None
    concurrency: PositiveInt = Field(4, description="Calls in flight, over all requests.")
    call_timeout_s: PositiveFloat = Field(120.0, description="Longest time of one generation.")
    attempts: PositiveInt = Field(8, description="Tries of one call, the first one included.")
    max_calls_per_hour: PositiveInt | None = Field(None, description="Spend limit; none: no limit.")

    allowed_hosts: tuple[HostName, ...] = Field(
        (), description="Hosts, with their subdomains, that results may be fetched from."
    )
    allow_private: bool = Field(
        False, description="Results may be fetched from private addresses, also without TLS."
    )
    max_answer_bytes: PositiveInt = 256 * 2**20
    alignment: Literal["refuse", "ignore"] = Field(
        "refuse", description="What to do with samples that do not lie on the input's pixels."
    )
    canary: Literal["off", "warn", "refuse"] = Field(
        "warn", description="What a silent change of the model leads to."
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that calls go to."""
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


class WorkerConfig(RemoteConfig):
    """Our own GPU worker, one or several of the same model."""

    kind: Literal["worker"] = "worker"
    urls: tuple[BaseUrl, ...] = Field(min_length=1)
    model: str | None = Field(None, description="Model name; none: the only one of the worker.")
    concurrency: PositiveInt = Field(2, description="Calls in flight per worker.")
    max_answer_bytes: PositiveInt = 2**30
    canary: Literal["off", "warn", "refuse"] = Field(
        "off", description="As for others; the fingerprint of a worker is its content already."
    )

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.urls


class OneAddress(RemoteConfig):
    """What every upscaler at one address has."""

    url: BaseUrl
    scale: PositiveInt = Field(description="Output side divided by input side.")
    samples_per_call: PositiveInt = 1
    fit: Literal["exact", "resize"] = Field(
        "exact",
        description="resize: bring samples of the right aspect ratio to the wanted size.",
    )
    mask_color: Color | None = Field(
        None, description="Inpainting: pixels of exactly this colour are to be filled in."
    )
    mask_field: str | None = Field(
        None, description="Where the holes are also sent as a picture, white on black; none: not."
    )

    @model_validator(mode="after")
    def _mask(self) -> Self:
        if self.mask_field is not None and self.mask_color is None:
            raise ValueError("mask_field sends the pixels of mask_color: set that too")
        return self


class OipConfig(OneAddress):
    """A foreign Open Inference Protocol server: Triton, KServe, MLServer, OpenVINO."""

    kind: Literal["oip"] = "oip"
    model: str
    version: str | None = None
    tensor_format: Literal["auto", "binary", "json"] = "auto"
    image_input: str = "image"
    image_layout: Literal["HWC", "NHWC", "CHW", "NCHW", "PNG"] = Field(
        "HWC", description="Axes of the image tensor; PNG: an encoded file as BYTES."
    )
    image_datatype: Literal["UINT8", "FP32"] = Field("UINT8", description="FP32 means 0..1.")
    seed_input: str | None = Field(None, description="INT64 tensor of seeds; none: no seeds.")
    seed_shape: tuple[int, ...] = Field(
        (-1,), description="Shape of the seed tensor; -1 is the number of seeds."
    )
    output: str = "samples"
    output_layout: Literal["HWC", "NHWC", "CHW", "NCHW", "PNG"] = "NHWC"
    parameters: dict[str, bool | int | float | str] = Field(default_factory=dict)


class _PredictionsConfig(OneAddress):
    image_field: str = "image"
    seed_field: str | None = Field(
        "seed", description='Field of the seed; none, or "" where there is no null: no seeds.'
    )
    seed_max: PositiveInt = 2**31 - 1
    input: dict[str, Any] = Field(default_factory=dict, description="Further fields of `input`.")
    output_pointer: str = Field("", description="JSON pointer to the image inside `output`.")

    @field_validator("seed_field")
    @classmethod
    def _seeds(cls, value: str | None) -> str | None:
        return value or None


class CogConfig(_PredictionsConfig):
    """A Cog container."""

    kind: Literal["cog"] = "cog"
    samples_per_call: Literal[1] = 1


class ReplicateConfig(_PredictionsConfig):
    """A model, version or deployment on Replicate."""

    kind: Literal["replicate"] = "replicate"
    url: BaseUrl = "https://api.replicate.com/v1"
    token_env: EnvName | None = "REPLICATE_API_TOKEN"  # noqa: S105 - the name of a variable
    model: str = Field(
        description="owner/name, owner/name:version, or deployments/owner/name.",
        pattern=r"^(deployments/)?[\w.-]+/[\w.-]+(:[0-9a-f]{64})?$",
    )
    samples_per_call: Literal[1] = 1
    wait_s: int = Field(60, ge=1, le=60, description="How long one call waits before polling.")
    poll_interval_s: PositiveFloat = 1.0
    upload_above_bytes: int = Field(
        256_000, ge=0, description="Larger images are uploaded once, smaller ones sent inline."
    )
    allowed_hosts: tuple[HostName, ...] = ("replicate.delivery",)


class HttpConfig(OneAddress):
    """Any HTTP API, described by data; `preset` names a description that is shipped."""

    kind: Literal["http"] = "http"
    preset: str | None = None
    request: Request
    seed: SeedField | None = Field(None, description="None: the API takes no seed.")
    answer: Answer = Answer()
    poll: Poll | None = None
    cancel: Cancel | None = None
    health_path: str | None = Field(None, description="GET here must answer 2xx; none: no check.")
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Values of further placeholders, such as a prompt."
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
        if self.seed is not None and self.samples_per_call > 1:
            raise ValueError("samples_per_call needs an API without seeds: one call has one {seed}")
        if self.samples_per_call > 1 and "count" not in self.request.placeholders:
            raise ValueError("samples_per_call needs {count} in the request")
        return self


class GradioConfig(OneAddress):
    """A Gradio app, such as a Hugging Face Space."""

    kind: Literal["gradio"] = "gradio"
    api_name: str = Field(description="Endpoint, such as upscale.", pattern=r"^/?[\w-]+$")
    inputs: tuple[Any, ...] = Field(
        ("{image}", "{seed}"), description='Arguments in order; "{image}" and "{seed}" are filled.'
    )
    output_pointer: str = Field("/0", description="JSON pointer to the image in the answer's list.")
    samples_per_call: Literal[1] = 1


UpscalerConfig = Annotated[
    EmbeddedConfig
    | WorkerConfig
    | OipConfig
    | CogConfig
    | ReplicateConfig
    | HttpConfig
    | GradioConfig,
    Field(discriminator="kind"),
]
"""Any entry of `upscalers`; `kind` tells them apart."""
