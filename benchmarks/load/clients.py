"""Clients that ask again as soon as they are answered, and what they saw."""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from PIL import Image

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "bridge.png"

# Clients obey Retry-After, but not for so long that a run of a minute sees nothing of them.
LONGEST_PAUSE_S = 5.0

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


class Answer(NamedTuple):
    """One request: its status (0: none came), when it was sent, how long it took.

    pause: Retry-After in seconds, 0 without it.
    """

    status: int
    sent: float
    seconds: float
    pause: float


def photograph(side: int) -> bytes:
    """An example as a PNG file of side × side pixels."""
    out = io.BytesIO()
    image = Image.open(EXAMPLE).convert("RGB")
    image.resize((side, side), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def upscaling(image: bytes, **fields: str) -> Ask:

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/upscale", files={"image": ("a.png", image)}, data=fields)

    return ask


async def load(url: str, ask: Ask, *, clients: int, seconds: float) -> list[Answer]:
    """What so many clients saw in so many seconds; each sends a request after the other."""
    answers: list[Answer] = []
    end = time.monotonic() + seconds

    async def one(client: httpx.AsyncClient) -> None:
        while time.monotonic() < end:
            sent = time.monotonic()
            try:
                response = await ask(client)
                status = response.status_code
                pause = float(response.headers.get("retry-after", 0))
            except httpx.TransportError:
                status, pause = 0, 1.0
            answers.append(Answer(status, sent, time.monotonic() - sent, pause))
            await asyncio.sleep(min(pause, LONGEST_PAUSE_S))

    pool = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=pool, trust_env=False) as client:
        await asyncio.gather(*(one(client) for _ in range(clients)))
    return answers


def statuses(answers: Sequence[Answer]) -> str:
    """How often each status came, such as "200: 31, 503: 4"."""
    counts = Counter(answer.status for answer in answers)
    return ", ".join(f"{status or 'no answer'}: {n}" for status, n in sorted(counts.items()))


def served(answers: Sequence[Answer]) -> list[float]:
    """Seconds of the requests that were answered with a result."""
    return [answer.seconds for answer in answers if answer.status == 200]


def rate(answers: Sequence[Answer]) -> float:
    """Results per second, from the first request to the last result."""
    ends = [answer.sent + answer.seconds for answer in answers if answer.status == 200]
    return len(ends) / (max(ends) - min(answer.sent for answer in answers)) if ends else 0.0


def percentiles(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    return " / ".join(f"{value:.2f}" for value in np.percentile(seconds, [50, 95, 99]))
