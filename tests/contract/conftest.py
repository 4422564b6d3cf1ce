"""Every test of this package runs on every implementation of the stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.stores.base import CalibrationHead, Job, Stores
from app.stores.open import open_stores

IMPLEMENTATIONS = ["sqlite", pytest.param("redis", marks=pytest.mark.servers)]

Opener = Callable[..., Stores]


@pytest.fixture(params=IMPLEMENTATIONS)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A URL behind which nothing is stored yet."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return f"sqlite:///{tmp_path}/store.sqlite3"


@pytest.fixture
async def opener(store_url: str, tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens the same stores again and again, as several processes do; closes them all."""
    opened: list[Stores] = []

    def open_again(**settings: float) -> Stores:
        limits = {"result_ttl_s": 60.0, "max_result_bytes": 10_000_000, **settings}
        opened.append(open_stores(store_url, tmp_path / "data", **limits))
        return opened[-1]

    yield open_again
    for stores in opened:
        await stores.close()


@pytest.fixture
def stores(opener: Opener) -> Stores:
    return opener()


def head(name: str, upscaler: str = "span", *, day: int = 1) -> CalibrationHead:
    return CalibrationHead(
        id=name,
        name=None,
        upscaler=upscaler,
        created_at=datetime(2026, 1, day, tzinfo=UTC),
        n=30,
        min_alpha=0.06,
        default_alpha=0.1,
        metric="neighborhood",
    )


def job(name: str = "job", *, second: int = 0) -> Job:
    created = datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)
    return Job(id=name, kind="calibration", created_at=created, request={"α": [1, {"b": None}]})
