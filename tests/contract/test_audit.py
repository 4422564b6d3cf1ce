"""The promises of AuditLog."""

from __future__ import annotations

import asyncio

from app.stores.base import Stores


class TestEntries:
    async def test_newest_first(self, stores: Stores):
        """Entries come the newest first, page by page, with growing ids and their facts."""
        assert await stores.audit.entries(limit=10) == []
        for i in range(5):
            await stores.audit.append("activate", "key-1", {"calibration": f"c{i}", "ü": None})
        page = await stores.audit.entries(limit=2)
        assert [entry.facts["calibration"] for entry in page] == ["c4", "c3"]
        assert (page[0].action, page[0].actor) == ("activate", "key-1")
        assert page[0].id > page[1].id
        assert page[0].at >= page[1].at
        assert page[0].at.tzinfo is not None
        rest = await stores.audit.entries(limit=10, before=page[-1].id)
        assert [entry.facts["calibration"] for entry in rest] == ["c2", "c1", "c0"]
        assert await stores.audit.entries(limit=10, before=rest[-1].id) == []

    async def test_several_writers(self, doors: list[Stores]):
        """No entry of racing writers is lost, and no id is given twice."""
        await asyncio.gather(*(doors[i % 3].audit.append("a", str(i), {}) for i in range(30)))
        entries = await doors[0].audit.entries(limit=100)
        assert {entry.actor for entry in entries} == {str(i) for i in range(30)}
        assert len({entry.id for entry in entries}) == 30
