"""From a configuration entry to an upscaler."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from app.telemetry.metrics import Metrics
from app.upscalers.base import Upscaler
from app.upscalers.config import (
    CogConfig,
    EmbeddedConfig,
    GradioConfig,
    HttpConfig,
    OipConfig,
    OneAddress,
    ReplicateConfig,
    UpscalerConfig,
    WorkerConfig,
)
from app.upscalers.remote.adapter import Adapter
from app.upscalers.remote.generic import HttpUpscaler
from app.upscalers.remote.gradio import GradioUpscaler
from app.upscalers.remote.http import Network, Upstream
from app.upscalers.remote.oip import OipUpscaler
from app.upscalers.remote.predictions import CogUpscaler, ReplicateUpscaler
from app.upscalers.remote.samples import SampleReader
from app.upscalers.remote.worker import WorkerUpscaler
from app.upscalers.resilience import ResilientUpscaler

_ADAPTERS: Mapping[type[OneAddress], type[Adapter[Any]]] = MappingProxyType(
    {
        CogConfig: CogUpscaler,
        GradioConfig: GradioUpscaler,
        HttpConfig: HttpUpscaler,
        OipConfig: OipUpscaler,
        ReplicateConfig: ReplicateUpscaler,
    }
)


def build_upscaler(
    config: UpscalerConfig,
    environ: Mapping[str, str],
    *,
    metrics: Metrics | None = None,
    network: Network | None = None,
) -> Upscaler:
    """Build an upscaler; remote ones are not contacted, and come with retries and limits.

    Args:
        config: the entry.
        environ: where the variables that `token_env` names are looked up.
        metrics: of the process; remote calls are counted there.
        network: transport and resolver, for tests.

    Raises:
        ConfigError: a variable is not set, or a model file cannot be read.
    """
    if isinstance(config, EmbeddedConfig):
        return _embedded(config)
    return ResilientUpscaler(build_adapter(config, environ, network=network), config, metrics)


def build_adapter(
    config: WorkerConfig | OneAddress,
    environ: Mapping[str, str],
    *,
    network: Network | None = None,
) -> Upscaler:
    """A remote upscaler as it is, without retries and limits."""
    if isinstance(config, WorkerConfig):
        upstreams = [Upstream(config, url, environ, network) for url in config.urls]
        return WorkerUpscaler(config, upstreams)
    upstream = Upstream(config, config.url, environ, network)
    reader = SampleReader(
        config.name,
        config.scale,
        upstream,
        fit=config.fit,
        refuse_misaligned=config.alignment == "refuse",
        mask_color=config.mask_color,
    )
    return _ADAPTERS[type(config)](config, upstream, reader)


def _embedded(config: EmbeddedConfig) -> Upscaler:
    # Imported here: onnxruntime takes time and memory that a gateway to remote models can save.
    from app.upscalers.embedded import DEFAULT_TILE, EmbeddedUpscaler  # noqa: PLC0415

    return EmbeddedUpscaler(
        name=config.name,
        model=config.model,
        threads=config.threads,
        tile=config.tile or DEFAULT_TILE,
        halo=config.halo,
        concurrency=config.concurrency,
    )
