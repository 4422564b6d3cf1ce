"""What remains of ended jobs, and how long."""

from __future__ import annotations

from collections.abc import Sequence

from trustscale_server.stores.documents import Changes, Document, Documents, Key, Put, read_folder
from trustscale_server.stores.job_documents import (
    AWAITING,
    ENDED,
    PAST,
    StoredJob,
    job_key,
    past_record,
    records_of,
    removed,
)


class JobRetention:
    """Makes ended jobs smaller (`archive`), and removes them (`expire`, `forget`)."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def archive(self, *, older_s: float) -> Sequence[str]:
        """Leave small records of jobs that finished `older_s` ago or before, and none of webhooks.

        Calibrations stay whole. Returns the ids.
        """
        most = await self._documents.time() - older_s
        ended = await read_folder(self._documents, ENDED, most=most)
        old = [job for job, kind in ended.items() if kind != b"calibration"]
        return [job for job in old if await self._archive(job)]

    async def _archive(self, job: str) -> bool:
        def shrink(documents: Sequence[Document]) -> tuple[bool, Changes]:
            (document,) = documents
            if not document.version:
                return False, {}
            status = StoredJob.from_document(document).status
            if status.finished_at is None:
                return False, {}
            changes = removed(status)
            if status.kind != "webhook":
                changes[Key(PAST, job)] = Put(past_record(status), status.finished_at.timestamp())
            return True, changes

        return await self._documents.change([job_key(job)], shrink)

    async def expire(self, *, older_s: float) -> Sequence[str]:
        """Remove jobs whose end or last label is `older_s` ago or more; return their ids."""
        most = await self._documents.time() - older_s
        over = [
            job
            for folder in (ENDED, AWAITING, PAST)
            for job in await self._documents.names(folder, most=most)
        ]
        return [job for job in over if await self.forget(job)]

    async def touch(self, job: str) -> None:
        """Note that a job got a label, so that it does not expire while it waits for others."""
        key, now = Key(AWAITING, job), await self._documents.time()

        def postpone(documents: Sequence[Document]) -> tuple[None, Changes]:
            return None, {key: Put(order=now)} if documents[0].version else {}

        await self._documents.change([key], postpone)

    async def forget(self, job: str) -> bool:
        """Remove a job with all that belongs to it; return whether there was one."""
        past = Key(PAST, job)

        def remove(documents: Sequence[Document]) -> tuple[bool, Changes]:
            whole, small = documents
            changes: dict[Key, Put | None] = {}
            if small.version:
                changes[past] = None
            if whole.version:
                changes |= removed(StoredJob.from_document(whole).status)
            return bool(whole.version or small.version), changes

        await self._documents.drop(records_of(job))  # first: nobody would look for them later
        return await self._documents.change([job_key(job), past], remove)
