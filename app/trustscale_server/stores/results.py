"""Results of upscaling: a document and its place in an index, the files as blobs."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import IO, Final, Literal, NamedTuple

from trustscale_server.platform.errors import NotFound
from trustscale_server.stores.blobs import Blob, Blobs
from trustscale_server.stores.documents import (
    Changes,
    Document,
    Documents,
    Key,
    Put,
    Space,
    StoreUnavailable,
    read_folder,
)
from trustscale_server.stores.spool import byte_size

RESULT_FOLDER: Final = "result-"
"""Prefix of folders of results."""

_ROWS: Final = "results"
_EXPIRY: Final = "results-by-expiry"
_BYTES: Final = Key("totals", "bytes of results")

_ROWS_AT_ONCE: Final = 100

Removed = Callable[[Literal["age", "space"]], None]

log = logging.getLogger(__name__)


class StoredResult(NamedTuple):
    """A row of the index; the files of the result are in `folder` of the blobs.

    stored, expires: seconds since 1970. size: of all files in bytes.
    """

    id: str
    folder: str
    size: int
    stored: float
    expires: float
    document: bytes = b""


class ResultStore:
    """Results until they expire or make room.

    result_ttl_s: default lifetime of a result. max_result_bytes: of all together. removed: called
    with the reason of a removal.
    """

    def __init__(
        self,
        documents: Documents,
        blobs: Blobs,
        *,
        result_ttl_s: float,
        max_result_bytes: int,
        removed: Removed = lambda _: None,
    ) -> None:
        self._documents = documents
        self._blobs = blobs
        self._result_ttl_s = result_ttl_s
        self._max_result_bytes = max_result_bytes
        self._removed = removed
        self._proven = -inf

    async def probe(self) -> None:
        """Raise StoreUnavailable unless a result can be stored; asked before one is paid for."""
        clock = asyncio.get_running_loop().time
        if clock() - self._proven > 2:  # seconds for which a proof counts
            await self._documents.probe()
            await self._blobs.probe()
            self._proven = clock()

    async def put(
        self, result: str, document: bytes, files: Mapping[str, Blob], *, ttl_s: float | None = None
    ) -> None:
        """Store a result, whole or not at all; an existing id keeps its first one."""
        stored = await self._documents.time()
        row = StoredResult(
            result,
            f"{RESULT_FOLDER}{result}:{secrets.token_hex(8)}",
            len(document) + sum(map(byte_size, files.values())),
            stored,
            stored + (self._result_ttl_s if ttl_s is None else ttl_s),
            document,
        )
        old = await self._stored(result)
        if old is not None and old.expires <= stored:
            await self._remove(old, "age")
        puts = [self._blobs.put(row.folder, name, data) for name, data in files.items()]
        ended = await asyncio.gather(*puts, return_exceptions=True)
        failure = next((error for error in ended if error is not None), None)
        # An index that does not answer may still have the row: then the files stay.
        if failure is not None or not await self._add(row):
            with suppress(StoreUnavailable):
                await self._blobs.delete(row.folder)
        if failure is not None:
            raise failure
        try:
            # A few, since a client waits: where the limit was lowered, a sweep removes the others.
            await self._make_room(most=8)
        except StoreUnavailable as error:
            # The result is stored; a later sweep makes room.
            log.warning("Old results could not be removed to make room: %s", error.detail)

    async def document(self, result: str) -> bytes:
        """Return the document of a result. Raises NotFound."""
        return (await self._row(result)).document

    async def kept(self, result: str) -> tuple[bytes, float]:
        """Return the document of a result, and until when it is kept, in seconds since 1970.

        Raises NotFound.
        """
        row = await self._row(result)
        return row.document, row.expires

    async def extend(self, result: str, document: bytes, *, ttl_s: float) -> float:
        """Keep a result for `ttl_s` from now on, never for less than before, with another document.

        Returns until when. It counts as new, so a full store removes others first. Raises
        NotFound.
        """
        now = await self._documents.time()
        place = Key(_ROWS, result)

        def longer(documents: Sequence[Document]) -> tuple[float | None, Changes]:
            total, present = documents
            row = _row(present.value) if present.version else None
            if row is None or row.expires <= now:
                return None, {}
            more = len(document) - len(row.document)
            row = row._replace(
                document=document, size=row.size + more, expires=max(row.expires, now + ttl_s)
            )
            return row.expires, {
                place: Put(_packed(row), now),
                Key(_EXPIRY, row.id): Put(order=row.expires),
                _BYTES: Put(b"%d" % (int(total.value or 0) + more)),
            }

        expires = await self._documents.change([_BYTES, place], longer)
        if expires is None:
            raise _missing(result)
        return expires

    async def blob(self, result: str, name: str) -> bytes:
        """Return a file of a result. Raises NotFound."""
        row = await self._row(result)
        with suppress(NotFound):
            return await self._blobs.get(row.folder, name)
        raise _missing(result)

    async def file(self, result: str, name: str) -> IO[bytes]:
        """Open a file of a result to read in parts. Raises NotFound."""
        row = await self._row(result)
        with suppress(NotFound):
            return await self._blobs.file(row.folder, name)
        raise _missing(result)

    async def link(self, result: str, name: str) -> str | None:
        """Return a public URL of a file, if the blobs have links. Raises NotFound."""
        row = await self._row(result)
        return await self._blobs.link(row.folder, name, seconds=300)

    async def has(self, result: str) -> bool:
        """Return whether there is such a result that has not expired."""
        return await self._present(result) is not None

    async def holds(self, folder: str) -> bool:
        """Return whether a folder of the blobs is that of a result."""
        row = await self._stored(folder.removeprefix(RESULT_FOLDER).rpartition(":")[0])
        return row is not None and row.folder == folder

    async def space(self) -> Space:
        """Return the size of all results, and its limit."""
        (document,) = await self._documents.read(_BYTES)
        return Space(int(document.value or 0), self._max_result_bytes)

    async def sweep(self) -> int:
        """Remove expired results, and the oldest above the limit; return how many."""
        names = await self._documents.names(_EXPIRY, most=await self._documents.time())
        expired = [row for name in names if (row := await self._stored(name)) is not None]
        return await self._remove_all(expired, "age") + await self._make_room()

    async def _make_room(self, *, most: float = inf) -> int:
        (document,) = await self._documents.read(_BYTES)
        total, removed = int(document.value or 0), 0
        if total <= self._max_result_bytes:
            return 0
        low = 0.9 * self._max_result_bytes  # so that not every upload has to make room
        while total > low and removed < most:
            limit = int(min(_ROWS_AT_ONCE, most - removed))
            oldest = await read_folder(self._documents, _ROWS, limit=limit + 1)
            surplus = []
            for row in list(map(_row, oldest.values()))[:-1]:  # the newest result stays
                if total <= low:
                    break
                surplus.append(row)
                total -= row.size
            if not surplus:
                break
            removed += await self._remove_all(surplus, "space")
        return removed

    async def _remove_all(
        self, rows: Sequence[StoredResult], reason: Literal["age", "space"]
    ) -> int:
        return sum([await self._remove(row, reason) for row in rows])

    async def _remove(self, row: StoredResult, reason: Literal["age", "space"]) -> bool:
        """Remove a row, then its files; False if another process did."""
        place = Key(_ROWS, row.id)

        def forget(documents: Sequence[Document]) -> tuple[bool, Changes]:
            total, present = documents
            if not present.version or _row(present.value).folder != row.folder:
                return False, {}
            left = Put(b"%d" % (int(total.value) - row.size))
            return True, {place: None, Key(_EXPIRY, row.id): None, _BYTES: left}

        if not await self._documents.change([_BYTES, place], forget):
            return False
        self._removed(reason)
        await self._blobs.delete(row.folder)
        return True

    async def _add(self, row: StoredResult) -> bool:
        """Add a row unless its id has another one; whether it is stored."""
        place = Key(_ROWS, row.id)

        def keep(documents: Sequence[Document]) -> tuple[bool, Changes]:
            total, present = documents
            if present.version:
                return _row(present.value).folder == row.folder, {}
            return True, {
                place: Put(_packed(row), row.stored),
                Key(_EXPIRY, row.id): Put(order=row.expires),
                _BYTES: Put(b"%d" % (int(total.value or 0) + row.size)),
            }

        return await self._documents.change([_BYTES, place], keep)

    async def _stored(self, result: str) -> StoredResult | None:
        (document,) = await self._documents.read(Key(_ROWS, result))
        return _row(document.value) if document.version else None

    async def _row(self, result: str) -> StoredResult:
        row = await self._present(result)
        if row is None:
            raise _missing(result)
        return row

    async def _present(self, result: str) -> StoredResult | None:
        """The row of a result that has not expired."""
        row = await self._stored(result)
        return row if row is not None and row.expires > await self._documents.time() else None


def _packed(row: StoredResult) -> bytes:
    return json.dumps(row[:-1]).encode() + b"\n" + row.document


def _row(value: bytes) -> StoredResult:
    line, _, document = value.partition(b"\n")
    return StoredResult(*json.loads(line))._replace(document=document)


def _missing(result: str) -> NotFound:
    return NotFound(f"There is no result {result!r}, or no longer.")
