"""What admins did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from pydantic import BaseModel

from app.stores.documents import Changes, Document, Documents, Key, Put, read_folder

_FOLDER: Final = "audit"
_LAST: Final = Key("last", _FOLDER)


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
        """Store one action; it is on the disk before this returns."""
        key, at = Key(_FOLDER, uuid4().hex), datetime.now(UTC)

        def keep(found: Sequence[Document]) -> tuple[None, Changes]:
            last, mine = found
            if mine.version:  # written by this call, whose answer got lost
                return None, {}
            number = last.version + 1
            entry = AuditEntry(id=number, at=at, action=action, actor=actor, facts=facts)
            return None, {key: Put(entry.model_dump_json().encode(), number), _LAST: Put()}

        await self._documents.change([_LAST, key], keep)

    async def entries(self, *, limit: int, before: int | None = None) -> list[AuditEntry]:
        """At most `limit` entries with an id below `before`, the newest first."""
        most = {} if before is None else {"most": before - 1}
        found = await read_folder(self._documents, _FOLDER, limit=limit, newest=True, **most)
        return [AuditEntry.model_validate_json(entry) for entry in found.values()]
