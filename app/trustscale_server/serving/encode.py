"""The files of an answer and its document, signed, with a card, and stored."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import IO, Final

from trustscale_server.calibration.guarantees import threshold_json
from trustscale_server.images.encode import (
    FORMS,
    Attached,
    Pages,
    enlarged_metadata,
    write_trust_cog,
)
from trustscale_server.images.metadata import Metadata
from trustscale_server.images.png import write_png
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.platform.tasks import shielded
from trustscale_server.platform.telemetry.traces import span
from trustscale_server.sampling.sigma.added_score import Added
from trustscale_server.serving.added import CELLS, RHO, added_detail, cells_png, zones
from trustscale_server.serving.admit import (
    Admitted,
)
from trustscale_server.serving.card_file import png_card
from trustscale_server.serving.choose import ServiceContext
from trustscale_server.serving.credentials import UNSIGNED
from trustscale_server.serving.document import (
    ADDED,
    BELIEVED,
    CARD,
    MASK,
    REST,
    SAFE_COPY,
    TRUST,
    TRUST_COG,
    Links,
    Picture,
    PictureLinks,
    Result,
    Unmasked,
    to_store,
)
from trustscale_server.serving.generate import Masked, clocked, picture_file
from trustscale_server.serving.left_out import why_look
from trustscale_server.serving.pictures import (
    FallbackLayer,
    write_believed,
    write_safe,
)
from trustscale_server.serving.promise import guarantee
from trustscale_server.serving.provenance import mark_of
from trustscale_server.serving.review import review_of
from trustscale_server.serving.warnings import warnings_of
from trustscale_server.stores.base import Blob
from trustscale_server.stores.spool import spooled

# Fields of the answer that the credentials repeat.
_SIGNED: Final = {
    "id", "upscaler", "calibration", "group", "input_class", "alpha", "threshold",
    "trusted_fraction", "samples", "seed", "guarantee", "warnings",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer: its document and its files by name, the picture first; see `spooled`."""

    admitted: Admitted
    picture: Picture
    files: Mapping[str, IO[bytes]]
    rest: FallbackLayer | None
    mean_log_sigma: float
    added: Added | None = None

    @property
    def result(self) -> Result | None:
        """The document of an answer with a mask; None without a mask."""
        return self.picture if isinstance(self.picture, Result) else None


async def encode_answer(masked: Masked, result_id: str, *, path_prefix: str = "") -> Encoded:
    """Make the files of the answer and its document. Raises StoreUnavailable: the disk is full."""
    path = f"{path_prefix}/v1/results/{result_id}"
    timings_ms = dict(masked.timings_ms)
    with clocked(timings_ms, "encode"), span("encode"):
        document, files = await shielded(_encoded, masked, result_id, path)
    document.timings_ms = timings_ms
    return Encoded(
        masked.admitted, document, files, masked.rest, masked.mean_log_sigma, masked.added
    )


def _encoded(masked: Masked, result_id: str, path: str) -> tuple[Picture, dict[str, IO[bytes]]]:
    """The document beside the files, the picture's first."""
    chosen, trust = masked.admitted.chosen, masked.trust

    def image() -> IO[bytes]:
        pages = Pages(trust.mask, trust.codes) if trust else None
        return masked.file or picture_file(masked.admitted, trust, masked.picture, pages)

    jobs = [lambda: {chosen.form.file: image()}]
    if trust is not None:
        scale = masked.picture.shape[1] / masked.admitted.size[1]
        jobs.append(trust.files)
        if chosen.form.name == "cog.tiff":
            metadata = enlarged_metadata(masked.admitted.decoded.image.metadata, scale)
            jobs.append(
                lambda: {TRUST_COG: spooled(write_trust_cog, trust.codes, trust.text, metadata)}
            )
    with ThreadPoolExecutor(2, "trustscale-encode") as threads:
        begun = [threads.submit(job) for job in jobs]
        document = _document(masked, result_id, path)
        if isinstance(document, Result) and document.believed.is_sent:
            begun.append(threads.submit(_believed, masked, document))
        if isinstance(document, Result) and document.safe:
            begun.append(threads.submit(_safe, masked, document))
        files = dict[str, IO[bytes]]()
        while begun:  # a name for one that fails would hold its files by way of its traceback
            files |= begun.pop(0).result()
        return document, files


def _believed(masked: Masked, result: Result) -> dict[str, IO[bytes]]:
    """The file `believed.png`."""
    trust, rest, visible = masked.trust, masked.rest, to_8_bit(masked.picture)
    assert trust is not None  # noqa: S101 - a result has a mask
    assert rest is not None  # noqa: S101 - and a plain layer
    chosen, upload = masked.admitted.chosen, masked.admitted.decoded.image
    attached = Attached(trust.text, Metadata(xmp=upload.metadata.xmp))
    mark = mark_of(result, chosen.pipeline.fingerprint, "believed")
    return {BELIEVED: spooled(write_believed, visible, trust.mask, rest, attached, mark)}


def _safe(masked: Masked, result: Result) -> dict[str, IO[bytes]]:
    """The files `safe.png` and `added.png`."""
    added, upload = masked.added, masked.admitted.decoded.image
    assert added is not None  # noqa: S101 - else the answer says that there is no such file
    trust = masked.trust
    assert trust is not None  # noqa: S101 - a result has a mask
    held = None
    if result.added is not None and result.added.held is not None:
        held = trust.request.applicable.subset.held(RHO)
    width, height = result.reduced_from or (result.width, result.height)
    places = zones(added, held, (height, width), (result.height, result.width))
    mark = mark_of(result, masked.admitted.chosen.pipeline.fingerprint, "safe")
    xmp = Metadata(xmp=upload.metadata.xmp)
    return {
        SAFE_COPY: spooled(write_safe, upload.rgb, masked.picture, added, xmp, mark),
        ADDED: spooled(write_png, places),
    }


async def sign(context: ServiceContext, encoded: Encoded) -> Encoded:
    """Add content credentials to the picture, where the operator has a certificate."""
    credentials, result = context.credentials, encoded.result
    chosen, parent = encoded.admitted.chosen, encoded.admitted.decoded.parent
    if credentials is None or result is None or parent is None or chosen.form.name in UNSIGNED:
        return encoded
    statement = result.model_dump(mode="json", include=_SIGNED)
    with clocked(result.timings_ms, "sign"), span("sign"):
        signed = await shielded(
            spooled,
            credentials.sign,
            encoded.files[chosen.form.file],
            FORMS[chosen.form.name].media_type,
            upload=parent,
            mask=encoded.files[MASK],
            promise={**statement, "fingerprint": chosen.pipeline.fingerprint},
        )
    return replace(encoded, files={**encoded.files, chosen.form.file: signed})


async def add_card(context: ServiceContext, encoded: Encoded) -> Encoded:
    """Add the card to the files, where the request asks for it."""
    result, rest = encoded.result, encoded.rest
    if result is None or rest is None or not result.card:
        return encoded
    with clocked(result.timings_ms, "card"), span("card"):
        card = await shielded(png_card, result, encoded.files, rest.data, context.credentials)
    return replace(encoded, files={**encoded.files, CARD: card})


async def store(context: ServiceContext, encoded: Encoded) -> None:
    """Store the answer while its slot is held, since a slow store costs memory, too."""
    if context.results is None:
        return
    decoded = encoded.admitted.decoded
    with span("store"):
        document = to_store(encoded.picture, decoded.digest)
        files: dict[str, Blob] = {**encoded.files}
        if encoded.rest is not None:
            files[REST] = encoded.rest.data
        if encoded.added is not None:
            files[CELLS] = cells_png(encoded.added)
        keep_s = encoded.admitted.chosen.request.keep_s
        await context.results.put(encoded.picture.id, document, files, ttl_s=keep_s)


def _document(masked: Masked, result_id: str, base: str) -> Picture:
    admitted, chosen, trust = masked.admitted, masked.admitted.chosen, masked.trust
    height, width, _ = masked.picture.shape
    links = {"self": base, "image": f"{base}/{chosen.form.file}"}
    common = {
        "id": result_id,
        "upscaler": chosen.upscaler.name,
        "upscaler_reason": chosen.why,
        "scale": chosen.pipeline.scale,
        "width": width,
        "height": height,
        "reduced_from": _reduced_from(masked),
        "samples": chosen.pipeline.samples,
        "seed": admitted.seed,
        "prediction": chosen.pipeline.prediction,
        "format": chosen.form.name,
        "quality": chosen.form.quality,
        "raster": admitted.decoded.image.raster,
        "timings_ms": dict(masked.timings_ms),
    }
    if trust is None or masked.rest is None:
        return Unmasked(**common, warnings=list(admitted.warnings), links=PictureLinks(**links))
    alpha, applicable = trust.request.alpha, trust.request.applicable
    trusted, opaque = trust.shares
    detail = None
    if masked.added is not None:
        held = applicable.subset.held(RHO)
        detail = added_detail(masked.added, held, RHO, why_not=applicable.why_not)
    promise = guarantee(applicable, alpha)
    return Result(
        promised=promise.promised,
        plain=promise.plain if detail is None else f"{detail.plain} {promise.plain}",
        added=detail,
        **common,
        calibration=trust.request.calibration.id,
        group=applicable.group,
        input_class=applicable.document,
        alpha=alpha,
        threshold=threshold_json(applicable.curve.threshold(alpha)),
        batch=None if applicable.batch is None else applicable.batch.adapted,
        trusted_fraction=trusted,
        opaque_fraction=opaque,
        guarantee=promise,
        believed=masked.rest.believed,
        safe=chosen.request.safe and detail is not None,
        card=chosen.request.card,
        review=review_of(
            applicable.subset,
            trust.sigma.high(),
            why_not=applicable.why_not or why_look(masked.left_out),
        ),
        warnings=warnings_of(
            applicable,
            alpha,
            trusted=trusted,
            notes=list(admitted.warnings),
            lossless=chosen.upscaler.capabilities.lossless,
        ),
        words=masked.words,
        left_out=masked.left_out,
        links=Links(
            **links,
            mask=f"{base}/{MASK}",
            trust=f"{base}/{TRUST}",
            overlay=f"{base}/overlay.png",
            believed=f"{base}/{BELIEVED}",
            card=f"{base}/{CARD}",
            added=f"{base}/added.png" if detail else None,
            safe=f"{base}/safe.png" if detail else None,
            trust_cog=f"{base}/{TRUST_COG}" if chosen.form.name == "cog.tiff" else None,
        ),
    )


def _reduced_from(masked: Masked) -> tuple[int, int] | None:
    """(width, height) of the picture before its reduction."""
    scale = masked.admitted.chosen.pipeline.scale
    height, width = (side * scale for side in masked.admitted.size)
    return None if masked.picture.shape[:2] == (height, width) else (width, height)
