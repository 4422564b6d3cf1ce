"""The answer to an upscaling: its document, its picture alone, or all its files in a zip."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import time
import zipfile
from collections.abc import Mapping
from typing import IO, Final, cast
from urllib.parse import quote

from fastapi.responses import JSONResponse, Response

from trustscale_server.http.negotiation import JSON, ZIP
from trustscale_server.http.streamed import StreamedFile
from trustscale_server.images.encoding.encode import PICTURE_FORMATS, FormatName
from trustscale_server.serving.document import UNMASKED_WARNING, Detail, Picture, Result, in_detail
from trustscale_server.serving.file_names import (
    ADDED,
    BELIEVED,
    CARD,
    MASK,
    SAFE_COPY,
    TRUST,
    TRUST_COG,
)
from trustscale_server.serving.stored_answer import image_file
from trustscale_server.stores.spool import byte_size, spooled

_UNESCAPED: Final = " !\"#$&'()*+,/:;<=>?@[]^`{|}"  # besides letters and digits, in headers


def answer_files(result: Picture, media_type: str) -> tuple[str, ...]:
    """Return the names of the files that an answer of this type is made of."""
    if media_type == JSON:
        return ()
    if media_type != ZIP or not isinstance(result, Result):
        return (image_file(result),)
    optional = {
        CARD: result.card,
        BELIEVED: result.believed.is_sent,
        SAFE_COPY: result.safe,
        ADDED: result.safe,
        TRUST_COG: result.links.trust_cog is not None,
    }
    return (
        image_file(result),
        MASK,
        TRUST,
        *(name for name, is_sent in optional.items() if is_sent),
    )


async def respond(
    result: Picture, files: Mapping[str, IO[bytes]], media_type: str, detail: Detail
) -> Response:
    """Answer with a result, and with its files of this media type (`answer_files`)."""
    document_json = result.model_dump_json()
    headers = {"Content-Location": result.links.self}
    if media_type == JSON:
        document = in_detail(json.loads(document_json), detail)
        return JSONResponse(document, headers=headers)
    if media_type != ZIP:
        (file,) = files.values()
        return StreamedFile(
            file,
            PICTURE_FORMATS[cast("FormatName", result.format)].media_type,
            **_picture_headers(result),
        )
    members = {**files, "result.json": io.BytesIO(document_json.encode())}
    headers["Content-Disposition"] = f'attachment; filename="{result.id}.zip"'
    content = await asyncio.to_thread(spooled, _zip, members)  # checksums take time
    return StreamedFile(content, ZIP, **headers)


def _picture_headers(result: Picture) -> dict[str, str]:
    """The headers of a picture that is sent alone."""
    links = [f'<{result.links.self}>; rel="describedby"; type="{JSON}"']
    headers = {"Content-Location": result.links.image, "Trustscale-Warnings": len(result.warnings)}
    is_promised, promise = False, UNMASKED_WARNING
    if isinstance(result, Result):
        links.append(f'<{result.links.mask}>; rel="related"; title="mask"')
        is_promised, promise = result.guarantee.promised, result.guarantee.plain
        headers |= {
            "Trustscale-Alpha": f"{result.alpha:g}",
            "Trustscale-Trusted-Fraction": f"{result.trusted_fraction:.4f}",
        }
    headers |= {
        "Link": ", ".join(links),
        "Trustscale-Promised": str(is_promised).lower(),
        "Trustscale-Promise": quote(promise, safe=_UNESCAPED),
    }
    return {name: str(value) for name, value in headers.items()}


def _zip(out: IO[bytes], files: Mapping[str, IO[bytes]]) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
        for name, file in files.items():
            entry = zipfile.ZipInfo(name, time.localtime()[:6])
            entry.file_size = byte_size(file)  # decides whether its header is that of zip64
            with file, archive.open(entry, "w") as member:
                shutil.copyfileobj(file, member, 2**20)
