"""The audit log over HTTP."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from app.api.deps import AdminDep, StateDep, admin_router
from app.stores.base import AuditEntry

router = admin_router("audit", "bad-request")


@router.get("")
async def list_audit(
    state: StateDep,
    _: AdminDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[
        int | None, Query(ge=1, lt=2**63, description="Only entries older than this id.")
    ] = None,
) -> list[AuditEntry]:
    """Admin actions, the newest first."""
    return await state.stores.audit.entries(limit=limit, before=before)
