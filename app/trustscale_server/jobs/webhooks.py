"""Deliveries of webhooks: jobs that notify a receiver that another job has ended.

A delivery is created before the end that it reports, so that no crash loses it. It is made at least
once; a repetition has the same `webhook-id`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from trustscale_server.jobs.handler import JobContext, RetriesExhausted, RetryLater
from trustscale_server.platform.errors import UpscalerError
from trustscale_server.platform.retry import full_jitter
from trustscale_server.stores.job_status import Job, JobState, JobStatus
from trustscale_server.stores.jobs import JobStore
from trustscale_server.upscalers.outbound.guard import FetchPolicy, NetworkAccess, foreign_answer
from trustscale_server.upscalers.outbound.webhooks import Webhooks

# After each failed attempt, plus up to a fifth at random: over a day in all.
_WAITS_S: Final = (5.0, 60.0, 300.0, 1800.0, 7200.0, 5 * 3600.0, 10 * 3600.0, 10 * 3600.0)

log = logging.getLogger(__name__)


def delivery_of(job: JobStatus, state: JobState) -> Job | None:
    """Make the job that reports the end of a job, if the request wants one."""
    url = job.about.webhook
    if not url:
        return None
    return Job(
        id=f"hook-{job.id}-{state}",
        kind="webhook",
        created_at=datetime.now(UTC),
        request={"url": url, "job": job.id, "state": state},
    )


def event_of(job: JobStatus) -> str:
    """Return the message about a job."""
    error: Mapping[str, object] = job.error or {}
    members = {name: error[name] for name in ("type", "title", "status", "detail") if name in error}
    event = {
        "type": f"job.{job.state}",
        "timestamp": (job.finished_at or datetime.now(UTC)).isoformat(),
        "data": {
            "id": job.id,
            "kind": job.kind,
            "state": job.state,
            "result": job.result,
            "needs_review": job.about.needs_review,
            "error": members or None,
        },
    }
    return json.dumps(event, separators=(",", ":"))


class _Refused(Exception):
    """An attempt failed; the reason as text."""


class WebhookHandler:
    """Delivers webhooks, as a `Handler`."""

    def __init__(
        self,
        jobs: JobStore,
        webhooks: Webhooks,
        *,
        waits_s: Sequence[float] = _WAITS_S,
        network: NetworkAccess | None = None,
    ) -> None:
        self._jobs = jobs
        self._webhooks = webhooks
        self._waits_s = waits_s
        self._network = network or NetworkAccess()
        self._policy = FetchPolicy(
            None, webhooks.webhook_hosts, allow_private=webhooks.allow_private, fetched="webhook"
        )

    async def __call__(self, job: Job, context: JobContext) -> str:
        """Notify the receiver; raises RetryLater if it fails."""
        ended = await self._jobs.get(job.request["job"])
        link = f"/v1/jobs/{ended.id}"
        if ended.is_runnable:
            raise RetryLater(1.0)
        if ended.state != job.request["state"]:
            return link  # another delivery reports its actual end
        attempt = (await self._jobs.get(job.id)).progress.done + 1
        max_attempts = len(self._waits_s) + 1
        try:
            await self._deliver(job, event_of(ended))
        except _Refused as refused:
            log.warning("Webhook %s, attempt %d of %d: %s", job.id, attempt, max_attempts, refused)
            await context.progress(attempt, max_attempts, "attempts")
            if attempt >= max_attempts:
                raise RetriesExhausted(
                    f"its receiver did not take it {attempt} times: {refused}"
                ) from None
            wait_s = self._waits_s[attempt - 1]
            raise RetryLater(wait_s + full_jitter(0.2 * wait_s)) from None
        await context.progress(attempt, attempt, "attempts")
        return link

    async def _deliver(self, job: Job, body: str) -> None:
        headers = self._webhooks.headers(job.id, datetime.now(UTC), body)
        try:
            async with foreign_answer(
                "POST",
                job.request["url"],
                self._policy,
                self._network,
                limit_s=15.0,
                content=body,
                headers={"Content-Type": "application/json", **headers},
            ) as answer:
                status = answer.status_code  # its body is not read
        except UpscalerError as error:
            raise _Refused(error.detail.rstrip(".")) from error
        if status == HTTPStatus.GONE:
            raise RetriesExhausted("its receiver is gone for good (410)")
        if not 200 <= status < 300:
            raise _Refused(f"it answered {status}")
