"""Files as answers, sent in parts."""

from __future__ import annotations

from typing import IO

from fastapi.responses import StreamingResponse

from app.stores.files import parts_of, size_of


def sent(file: IO[bytes], media_type: str, **headers: str) -> StreamingResponse:
    """A file, which is closed then; a slow client costs no memory."""
    length = {"Content-Length": str(size_of(file))}
    return StreamingResponse(parts_of(file), media_type=media_type, headers={**headers, **length})
