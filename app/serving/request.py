"""What is asked for, before anything of it is checked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpscaleRequest:
    """The fields of a request, not yet checked; None means the default.

    client: who asks, as a digest; only the monitor reads it.
    keep_s: how long the result is kept, so that the request may be repeated.
    """

    upscaler: str | None = None
    alpha: float | None = None
    seed: int | None = None
    background: str | None = None
    client: str | None = None
    group: str | None = None
    format: str = "png"
    quality: int | None = None
    metadata: str = "none"
    fit: int | None = None
    keep_s: float | None = None
