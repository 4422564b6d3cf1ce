"""What SQLite holds, copied to Redis, with the files if they move, too.

A copy that was interrupted goes on when it is run again: what is there already is compared, not
written. Until it has ended, no service starts on that Redis. Versions count on from the largest of
the source, since labels of pairs are numbered by them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from trustscale_server.platform.errors import Conflict
from trustscale_server.stores.blobs import CHECK_FOLDER, Blobs
from trustscale_server.stores.documents import Changes, Document, Key, Put
from trustscale_server.stores.redis import Client, begin_copy, check_blobs, end_copy
from trustscale_server.stores.redis_documents import RedisDocuments
from trustscale_server.stores.sqlite import SqliteDocuments


class Copied(NamedTuple):
    """How much there is, and how much of it this run wrote."""

    documents: int
    written: int
    files: int
    sent: int


async def copy_stores(
    source: SqliteDocuments, source_blobs: Blobs, client: Client, blobs: Blobs
) -> Copied:
    """Copy all documents, and all files unless both places are the same; returns what was done.

    client: of a Redis without data, or with a part of this copy.

    Raises:
        Conflict: Redis has other data, or a service wrote to the source meanwhile.
        StoreUnavailable: either does not answer; run again, the copy goes on.
    """
    mine = hashlib.sha256(await source_blobs.identity()).hexdigest().encode()
    before = await source.changed()
    await begin_copy(client, mine, after=await source.newest())
    await check_blobs(client, blobs)
    files, sent = await _copy_files(source_blobs, blobs)
    target = RedisDocuments(client)
    documents = written = 0
    last = Key("", "")
    while rows := await source.page(last, most=100, most_bytes=4 * 2**20):
        last = rows[-1][0]
        documents += len(rows)
        written += await _write(target, rows)
    if await source.changed() != before:
        raise Conflict(
            "Something was written to SQLite while it was copied: stop the service and its "
            "commands, then run this again."
        )
    await end_copy(client)
    return Copied(documents, written, files, sent)


async def _write(target: RedisDocuments, rows: Iterable[tuple[Key, Put]]) -> int:
    """Store the documents that are not there yet; returns how many."""
    puts = dict(rows)

    def missing(present: Sequence[Document]) -> tuple[int, Changes]:
        changes = {
            key: put
            for (key, put), document in zip(puts.items(), present, strict=True)
            if not document.version or document.value != put.value
        }
        return len(changes), changes

    return await target.change([*puts], missing)


async def _copy_files(source: Blobs, target: Blobs) -> tuple[int, int]:
    """Copy the files that are not there in the same size; returns all and how many were sent."""
    if await source.identity() == await target.identity():
        return 0, 0
    sizes, present = await source.sizes(), await target.sizes()
    sent = 0
    for (folder, name), size in sizes.items():
        if folder == CHECK_FOLDER or present.get((folder, name)) == size:
            continue
        with await source.file(folder, name) as file:
            await target.put(folder, name, file)
        sent += 1
    return sum(folder != CHECK_FOLDER for folder, _ in sizes), sent
