"""What path operations ask for, by name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request

from app.api.auth import Keyring, require, sent_key
from app.calibration.active import Calibrations
from app.calibration.admin import CalibrationAdmin
from app.jobs.queue import JobQueue
from app.metrics import Metrics
from app.service import UpscaleService
from app.settings import Settings
from app.stores.base import Stores

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """Everything `create_app` has wired together."""

    settings: Settings
    stores: Stores
    calibrations: Calibrations
    service: UpscaleService
    admin: CalibrationAdmin
    queue: JobQueue
    worker: asyncio.Task[None] | None  # runs jobs in this process
    metrics: Metrics
    client_keys: Keyring
    admin_keys: Keyring

    async def audit(self, action: str, key: str, **facts: Any) -> None:
        """Keep an admin action in the audit log, and log it."""
        await self.stores.audit.append(action, f"key {key}", facts)
        log.info("admin_action", action=action, key=key, **facts)


def _state(request: Request) -> State:
    state: State = request.state.trustscale
    return state


StateDep = Annotated[State, Depends(_state)]


def _client(request: Request, state: StateDep) -> str | None:
    if state.client_keys.empty:
        return None
    is_admin = state.admin_keys.key_id(sent_key(request.headers)) is not None
    return require(state.admin_keys if is_admin else state.client_keys, request.headers)


def _admin(request: Request, state: StateDep) -> str:
    return require(state.admin_keys, request.headers)


ClientDep = Annotated[str | None, Depends(_client)]
"""Id of the client's key; None when the public API is open."""

AdminDep = Annotated[str, Depends(_admin)]
"""Id of the admin's key."""
