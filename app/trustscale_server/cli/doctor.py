"""`trustscale doctor`: looks over an installation, and makes one request through all of it.

It opens what `serve` opens, beside a service that runs, and calls no upscaler that has a price.
"""

from __future__ import annotations

import asyncio
import io
import os
import platform
import resource
import shutil
import time
from contextlib import AsyncExitStack, suppress
from math import inf
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import typer
from PIL import Image

from trustscale_server import __version__
from trustscale_server.bootstrap.assembly import Services, open_parts
from trustscale_server.bootstrap.checks import check_settings
from trustscale_server.bootstrap.settings import Settings, load_settings
from trustscale_server.cli import options
from trustscale_server.cli.config import effective
from trustscale_server.cli.output import output
from trustscale_server.http.server import DESCRIPTORS
from trustscale_server.platform.cores import core_quota, cores, usable_cores
from trustscale_server.platform.errors import (
    ConfigError,
    NoCalibration,
    TrustscaleError,
    UpscalerUnavailable,
)
from trustscale_server.platform.memory import memory_limit
from trustscale_server.platform.telemetry.logs import configure_logs
from trustscale_server.sampling.spec import pipeline_differences
from trustscale_server.serving.request import UpscaleRequest
from trustscale_server.upscalers.base import Upscaler
from trustscale_server.upscalers.config import RemoteConfig
from trustscale_server.upscalers.embedded.runtime import bf16_unit, has_bf16
from trustscale_server.upscalers.embedded.upscaler import EmbeddedConfig

_CHECK_S: Final = 15.0
_SIDE: Final = 48


class Finding(NamedTuple):
    """What was looked at and found; advice: what to do."""

    name: str
    state: Literal["ok", "warning", "error"]
    detail: str
    advice: str | None = None


def doctor(as_json: options.Json = False) -> None:
    """Look over this installation: settings, machine, stores, models, calibrations, a request.

    Calls no upscaler that has a price. Exit codes: 0 nothing is broken; 1 something is.
    """
    settings = load_settings()
    configure_logs("error")
    findings = asyncio.run(_findings(settings))
    output([finding._asdict() for finding in findings], _text, as_json=as_json)
    if any(finding.state == "error" for finding in findings):
        raise typer.Exit(1)


def _text(findings: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{finding['state']:8}{finding['name']}: {finding['detail']}"
        + (f"\n        → {finding['advice']}" if finding["advice"] else "")
        for finding in findings
    )


async def _findings(settings: Settings) -> list[Finding]:
    findings = [_release(), _differences(settings), *_machine(settings)]
    try:
        findings += [
            Finding("settings", "warning", text) for text in await check_settings(settings)
        ]
        async with AsyncExitStack() as stack:
            services = await open_parts(settings, stack, serves=False)
            findings += await _stores(services)
            for upscaler in services.upscalers.values():
                findings += await _reached(services, upscaler)
                findings.append(await _upscaler(services, upscaler))
            findings.append(await _request(services))
    except TrustscaleError as error:
        is_setting = isinstance(error, ConfigError)
        advice = "trustscale config check names each setting" if is_setting else None
        findings.append(Finding("start", "error", error.detail, advice))
    return findings


def _release() -> Finding:
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding("release", "ok", f"trustscale {__version__}, {machine}")


def _differences(settings: Settings) -> Finding:
    values = effective(settings)
    changed = {name: values[name] for name in values if name in settings.model_fields_set}
    hidden = {name: "***" for name in changed if "key" in name or "secret" in name}
    text = "; ".join(f"{name} = {value}" for name, value in sorted((changed | hidden).items()))
    return Finding("differs from the defaults", "ok", text or "nothing")


def _machine(settings: Settings) -> list[Finding]:
    quota, text = core_quota(), f"{cores()} cores"
    if quota is not None and quota < cores():
        text += f", of which a quota leaves {quota:g}: {usable_cores()} threads for each model"
    if has_bf16():
        text += f" with bfloat16 ({bf16_unit() or 'OpenVINO says so'})"
    findings = [Finding("processor", "ok", text)]
    memory = memory_limit()
    text = "no limit is known" if memory is None else f"{memory / 2**30:.1f} GiB"
    is_small = memory is not None and memory < 2**30
    advice = "give it 1 GiB or more: see docs/sizing.md" if is_small else None
    findings.append(Finding("memory", "warning" if is_small else "ok", text, advice))
    max_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    is_few = 0 <= max_descriptors < DESCRIPTORS
    findings.append(
        Finding("file descriptors", "warning" if is_few else "ok", f"{max_descriptors}",
                f"raise the hard limit (ulimit -n) to {DESCRIPTORS}" if is_few else None)
    )  # fmt: skip
    folder = settings.data_dir
    place = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    free = shutil.disk_usage(place).free
    is_full = free < 2**30
    findings.append(
        Finding("disk", "warning" if is_full else "ok", f"{free / 2**30:.1f} GiB free at {folder}",
                "free space, or lower max_result_bytes" if is_full else None)
    )  # fmt: skip
    if not os.access(place, os.W_OK):
        advice = f"give it to user {os.getuid()}, or name another in data_dir"
        findings.append(Finding("data folder", "error", f"{place} cannot be written", advice))
    return findings


async def _stores(services: Services) -> list[Finding]:
    stores = services.stores
    await stores.probe()
    weakness = await stores.weakness()
    findings = [Finding("store", "ok", "reads and writes")]
    if weakness is not None:
        findings = [Finding("store", "warning", weakness, "see docs/operations.md#rewritesfail")]
    spaces = {"space of the store": await stores.space(), "results": await stores.results.space()}
    for name, (used, limit) in spaces.items():
        is_full = limit != inf and used > 0.7 * limit
        text = f"{used / 2**20:.1f} MiB" + ("" if limit == inf else f" of {limit / 2**20:.0f} MiB")
        advice = "see docs/operations.md#storefills" if is_full else None
        findings.append(Finding(name, "warning" if is_full else "ok", text, advice))
    drift = abs((await stores.jobs.now()).timestamp() - time.time())
    is_off = drift > 2
    advice = "let both machines take their time from NTP" if is_off else None
    text = f"{drift:.2f} s from that of the store"
    return [*findings, Finding("clock", "warning" if is_off else "ok", text, advice)]


async def _reached(services: Services, upscaler: Upscaler) -> list[Finding]:
    """Whether something listens at each address of an upscaler: a connection, and no request."""
    config = services.settings.upscaler(upscaler.name)
    if not isinstance(config, RemoteConfig):
        return []
    findings = []
    for url in config.addresses:
        split = urlsplit(url)
        host, port = split.hostname or "", split.port or {"http": 80}.get(split.scheme, 443)
        name = f"upscaler {upscaler.name} at {host}:{port}"
        findings.append(await _connection(name, host, port, ssl=split.scheme == "https"))
    return findings


async def _connection(name: str, host: str, port: int, *, ssl: bool) -> Finding:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_CHECK_S):
            _, writer = await asyncio.open_connection(host, port, ssl=ssl or None)
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or f"no answer within {_CHECK_S:g} s"
        advice = "check that it runs, and names, certificates and firewalls on the way"
        return Finding(name, "error", reason, advice)
    writer.close()
    return Finding(name, "ok", f"connected in {1e3 * (time.perf_counter() - began):.0f} ms")


async def _upscaler(services: Services, upscaler: Upscaler) -> Finding:
    """Whether a model can be reached, and which of its calibrations answers."""
    name, price = f"upscaler {upscaler.name}", services.settings.price_per_call(upscaler.name)
    reached = "not asked, since its calls have a price"
    try:
        if not price:
            async with asyncio.timeout(_CHECK_S):
                await upscaler.probe()
            reached = "reached"
        active = (await services.calibrations.priority(upscaler.name)).calibrations
    except NoCalibration as error:
        return Finding(name, "warning", f"{reached}; {error.detail}", "see docs/calibration.md")
    except TimeoutError:
        return Finding(name, "error", f"no answer within {_CHECK_S:g} s", "look at its own log")
    except TrustscaleError as error:
        return Finding(name, "error", error.detail, "see docs/operations.md#upscalerunavailable")
    silent = []
    for calibration in active:
        settings = calibration.manifest.provenance.settings
        differences = pipeline_differences(calibration.pipeline, upscaler, settings)
        if differences:
            fields = ", ".join(str(difference.get("field")) for difference in differences)
            silent.append(f"{calibration.id} does not answer: {fields} differ")
    text = "; ".join([f"{reached}, {len(active) - len(silent)} calibrations answer", *silent])
    with suppress(UpscalerUnavailable):  # never reached
        text = f"{upscaler.fingerprint[: len('sha256:') + 12]}; {text}"
    is_broken = bool(active) and len(silent) == len(active)
    advice = "see docs/operations.md#calibrationmismatch" if silent else None
    return Finding(name, "error" if is_broken else "warning" if silent else "ok", text, advice)


async def _request(services: Services) -> Finding:
    """One upload through everything, by a model inside this process."""
    configs = services.settings.upscalers
    inside = [config.name for config in configs if isinstance(config, EmbeddedConfig)]
    if not inside:
        return Finding("a request", "ok", "not made: no model runs inside this process")
    started = time.perf_counter()
    try:
        request = UpscaleRequest(upscaler=inside[0], keep_s=1.0)
        prepared = await services.service.prepare(_picture, request)
        answer = await services.service.run(prepared)
    except TrustscaleError as error:
        return Finding("a request", "error", error.detail)
    total_ms = 1e3 * (time.perf_counter() - started)
    steps = ", ".join(f"{name} {ms:.0f}" for name, ms in answer.picture.timings_ms.items())
    return Finding("a request", "ok", f"{total_ms:.0f} ms ({steps})")


async def _picture() -> bytes:
    ramp = np.linspace(0, 255, _SIDE * _SIDE * 3).reshape(_SIDE, _SIDE, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "PNG")
    return file.getvalue()
