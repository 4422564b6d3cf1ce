"""Files as answers, sent in parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Final

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from trustscale_server.stores.spool import byte_size

_PART_BYTES: Final = 2**20


class StreamedFile(StreamingResponse):
    """Sends a file in parts, and closes it at the end or when the client hangs up."""

    def __init__(self, file: IO[bytes], media_type: str, **headers: str) -> None:
        length = {"Content-Length": str(byte_size(file))}
        super().__init__(_parts(file), media_type=media_type, headers={**headers, **length})
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_PART_BYTES):
        yield chunk
