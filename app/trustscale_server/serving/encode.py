"""The files of an answer, signed, with a card, and stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Final

from trustscale_server.images.encoding.encode import PICTURE_FORMATS
from trustscale_server.images.encoding.png import to_png
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.platform.tasks import shielded
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.sampling.sigma.added_score import Added
from trustscale_server.serving.added_cells import CELLS, cells_png
from trustscale_server.serving.admit import Admitted
from trustscale_server.serving.card_file import png_card
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.credentials import UNSIGNED
from trustscale_server.serving.describe import document_of
from trustscale_server.serving.document import Picture, Result
from trustscale_server.serving.file_names import CARD, MASK, REST
from trustscale_server.serving.files import (
    AnswerFiles,
    believed_file,
    picture_file,
    safe_files,
    trust_cog_file,
)
from trustscale_server.serving.generate import Generated, clocked
from trustscale_server.stores.blobs import Blob
from trustscale_server.stores.spool import spooled

# Fields of the answer that the credentials repeat.
_SIGNED: Final = {
    "id", "upscaler", "calibration", "group", "input_class", "alpha", "threshold",
    "trusted_fraction", "samples", "seed", "guarantee", "warnings",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer: its document and its files by name, the picture first; see `spooled`.

    rest: the upload as a file, which fills what is not trusted; None: there is no mask.
    """

    admitted: Admitted
    picture: Picture
    files: Mapping[str, IO[bytes]]
    rest: bytes | None
    added: Added | None = None

    @property
    def result(self) -> Result | None:
        """The document of an answer with a mask; None without a mask."""
        return self.picture if isinstance(self.picture, Result) else None


async def encode_answer(generated: Generated, result_id: str, *, path_prefix: str = "") -> Encoded:
    """Make the files of the answer and its document. Raises StoreUnavailable: the disk is full."""
    timings_ms = dict(generated.timings_ms)
    with clocked(timings_ms, "encode"), span("encode"):
        base = f"{path_prefix}/v1/results/{result_id}"
        encoded = await shielded(_encoded, generated, result_id, base)
    encoded.picture.timings_ms = timings_ms
    return encoded


def _encoded(generated: Generated, result_id: str, base: str) -> Encoded:
    document, trust, rest = document_of(generated, result_id, base), generated.trust, None
    writers: list[Callable[[], AnswerFiles]] = [partial(picture_file, generated, document)]
    if trust is not None and isinstance(document, Result):
        rest = to_png(to_8_bit(generated.admitted.decoded.image.rgb))
        writers.append(trust.files)
        if generated.admitted.chosen.picture_format.name == "cog.tiff":
            writers.append(partial(trust_cog_file, generated, trust))
        if document.believed.is_sent:
            writers.append(partial(believed_file, generated, trust, document, rest))
        if document.safe:
            writers.append(partial(safe_files, generated, trust, document))
    with ThreadPoolExecutor(2, "trustscale-encode") as threads:
        begun = [threads.submit(write) for write in writers]
        files: AnswerFiles = {}
        while begun:  # popped, as a variable would keep the files of one that failed alive
            files |= begun.pop(0).result()
    return Encoded(generated.admitted, document, files, rest, generated.added)


async def sign(context: ServiceContext, encoded: Encoded) -> Encoded:
    """Add content credentials to the picture, where the operator has a certificate."""
    credentials, result = context.credentials, encoded.result
    chosen, parent = encoded.admitted.chosen, encoded.admitted.decoded.parent
    if (
        credentials is None
        or result is None
        or parent is None
        or chosen.picture_format.name in UNSIGNED
    ):
        return encoded
    statement = result.model_dump(mode="json", include=_SIGNED)
    with clocked(result.timings_ms, "sign"), span("sign"):
        signed = await shielded(
            spooled,
            credentials.sign,
            encoded.files[chosen.picture_format.file],
            PICTURE_FORMATS[chosen.picture_format.name].media_type,
            upload=parent,
            mask=encoded.files[MASK],
            promise={**statement, "fingerprint": chosen.pipeline.fingerprint},
        )
    return replace(encoded, files={**encoded.files, chosen.picture_format.file: signed})


async def add_card(context: ServiceContext, encoded: Encoded) -> Encoded:
    """Add the card to the files, where the request asks for it."""
    result, rest = encoded.result, encoded.rest
    if result is None or rest is None or not result.card:
        return encoded
    with clocked(result.timings_ms, "card"), span("card"):
        card = await shielded(png_card, result, encoded.files, rest, context.credentials)
    return replace(encoded, files={**encoded.files, CARD: card})


async def store(context: ServiceContext, encoded: Encoded) -> None:
    """Store the answer while its slot is held, since a slow store costs memory, too."""
    if context.results is None:
        return
    with span("store"):
        document = encoded.picture.model_dump_json().encode()
        files: dict[str, Blob] = {**encoded.files}
        if encoded.rest is not None:
            files[REST] = encoded.rest
        if encoded.added is not None:
            files[CELLS] = cells_png(encoded.added)
        keep_s = encoded.admitted.chosen.request.keep_s
        await context.results.put(encoded.picture.id, document, files, ttl_s=keep_s)
