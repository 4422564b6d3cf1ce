"""All kinds of upscalers, and how a configuration entry becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from trustscale_server.platform.telemetry.metrics import Metrics
from trustscale_server.stores.calls import CallStore
from trustscale_server.upscalers.base import Upscaler
from trustscale_server.upscalers.config import OneAddress, RemoteConfig
from trustscale_server.upscalers.embedded.runtime import PrecisionSetting
from trustscale_server.upscalers.embedded.upscaler import (
    EmbeddedConfig,
    EmbeddedUpscaler,
    tile_plan,
)
from trustscale_server.upscalers.outbound.guard import NetworkAccess
from trustscale_server.upscalers.remote.adapter import Adapter
from trustscale_server.upscalers.remote.description import HttpConfig
from trustscale_server.upscalers.remote.generic import HttpUpscaler
from trustscale_server.upscalers.remote.gradio import GradioConfig, GradioUpscaler
from trustscale_server.upscalers.remote.oip import OipConfig, OipUpscaler
from trustscale_server.upscalers.remote.predictions import (
    CogConfig,
    CogUpscaler,
    ReplicateConfig,
    ReplicateUpscaler,
)
from trustscale_server.upscalers.remote.upstream import Upstream
from trustscale_server.upscalers.remote.worker import WorkerConfig, WorkerUpscaler
from trustscale_server.upscalers.resilience.account import CallAccount
from trustscale_server.upscalers.resilience.upscaler import ResilientUpscaler
from trustscale_server.upscalers.supplied import SuppliedConfig, SuppliedUpscaler

UpscalerConfig = Annotated[
    EmbeddedConfig
    | SuppliedConfig
    | WorkerConfig
    | OipConfig
    | CogConfig
    | ReplicateConfig
    | HttpConfig
    | GradioConfig,
    Field(discriminator="kind"),
]
"""Any entry of `upscalers`."""

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
    calls: CallStore | None = None,
    network: NetworkAccess | None = None,
    precision: PrecisionSetting = "f32",
) -> Upscaler:
    """Build an upscaler; a remote one is not contacted yet.

    `calls` counts over all processes; without it, as in a probe, `max_calls_per_hour` does nothing.
    `precision` is that of embedded models.

    Raises ConfigError for an unset variable or an unreadable model file.
    """
    upscaler = build_bare(config, environ, network=network, precision=precision)
    if not isinstance(config, RemoteConfig):
        return upscaler
    return ResilientUpscaler(upscaler, config, metrics, account=CallAccount(config, calls))


def build_bare(
    config: UpscalerConfig,
    environ: Mapping[str, str],
    *,
    network: NetworkAccess | None = None,
    precision: PrecisionSetting = "f32",
) -> Upscaler:
    """Build an upscaler without retries and limits; see `build_upscaler`."""
    if isinstance(config, EmbeddedConfig):
        return EmbeddedUpscaler(
            config.name,
            config.model,
            tile_plan(config.model, config.tile, config.halo),
            threads=config.threads,
            concurrency=config.concurrency,
            precision=precision,
            align_colours=config.align_colours,
        )
    if isinstance(config, SuppliedConfig):
        return SuppliedUpscaler(config)
    upstreams = [Upstream(config, url, environ, network) for url in config.addresses]
    if isinstance(config, WorkerConfig):
        return WorkerUpscaler(config, upstreams)
    return _ADAPTERS[type(config)](config, upstreams[0])
