"""Calls to Redis whose answer the network lost, and which the client makes again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from app.errors import NotFound
from app.stores import redis as module
from app.stores.base import Stores
from app.stores.open import open_stores
from tests.contract.conftest import head

pytestmark = pytest.mark.servers


@pytest.fixture
async def stores(redis_url: str, tmp_path: Path):
    opened: Stores = open_stores(redis_url, tmp_path, result_ttl_s=60, max_result_bytes=10**7)
    yield opened
    await opened.close()


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is the repetition of the one before: it carries the same token."""
    monkeypatch.setattr(module, "uuid4", lambda: SimpleNamespace(hex="one call"))


@pytest.mark.usefixtures("repeated")
class TestRepeated:
    async def test_a_deletion(self, stores: Stores):
        """What this call has deleted is deleted, not unknown."""
        await stores.calibrations.put(head("a"), b"")
        for _ in range(2):
            await stores.calibrations.delete("a")
        assert await stores.calibrations.heads() == []

    async def test_an_entry_of_the_audit(self, stores: Stores):
        """One action is one entry."""
        for _ in range(2):
            await stores.audit.append("calibration.delete", "key 1", {})
        assert len(await stores.audit.entries(limit=9)) == 1


async def test_another_deletion(stores: Stores):
    """Somebody else who deletes it is told that there is none."""
    await stores.calibrations.put(head("a"), b"")
    await stores.calibrations.delete("a")
    with pytest.raises(NotFound):
        await stores.calibrations.delete("a")
