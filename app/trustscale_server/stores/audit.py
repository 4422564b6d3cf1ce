"""The audit log: what admins did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any, Final
from uuid import uuid4

import structlog
from pydantic import BaseModel

from trustscale_server.stores.documents import Changes, Document, Documents, Key, Put, read_folder

_AUDIT: Final = "audit"
_LAST: Final = Key("last", _AUDIT)

log = structlog.get_logger(__name__)


class AuditEntry(BaseModel):
    """One admin action. `id` grows with time."""

    id: int
    at: datetime
    action: str
    actor: str
    facts: dict[str, Any]


class AuditLog:
    """Admin actions, append-only."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def append(self, action: str, actor: str, facts: dict[str, Any]) -> None:
        """Store one action, and log it; it is on the disk before this returns."""
        key, at = Key(_AUDIT, uuid4().hex), datetime.now(UTC)

        def add(documents: Sequence[Document]) -> tuple[None, Changes]:
            last, mine = documents
            if mine.version:  # written by this call, whose answer got lost
                return None, {}
            number = last.version + 1
            entry = AuditEntry(id=number, at=at, action=action, actor=actor, facts=facts)
            return None, {key: Put(entry.model_dump_json().encode(), number), _LAST: Put()}

        await self._documents.change([_LAST, key], add)
        log.info("admin_action", action=action, actor=actor, **facts)

    async def entries(self, *, limit: int, before: int | None = None) -> list[AuditEntry]:
        """Return at most `limit` entries with an id below `before`, the newest first."""
        most = inf if before is None else before - 1
        entries = await read_folder(self._documents, _AUDIT, most=most, limit=limit, newest=True)
        return [AuditEntry.model_validate_json(entry) for entry in entries.values()]
