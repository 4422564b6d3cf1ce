"""The files of an answer, each written while the answer is in memory.

Every function returns files by name, and raises StoreUnavailable where the disk is full.
"""

from __future__ import annotations

from dataclasses import replace
from typing import IO, TypeAlias

from trustscale_server.images.encoding.encode import Attached
from trustscale_server.images.encoding.png import write_png
from trustscale_server.images.encoding.tiff import Pages, write_trust_cog
from trustscale_server.images.metadata import Metadata
from trustscale_server.pixels.lab import to_8_bit
from trustscale_server.proof.marked import write_marked
from trustscale_server.serving.added import RHO
from trustscale_server.serving.added_cells import zones
from trustscale_server.serving.document import Picture, Result
from trustscale_server.serving.drawings import write_believed, write_safe
from trustscale_server.serving.file_names import ADDED, BELIEVED, SAFE_COPY, TRUST_COG
from trustscale_server.serving.generate import Generated
from trustscale_server.serving.provenance import UNMASKED_TEXT, mark_of
from trustscale_server.serving.trust import Trust
from trustscale_server.stores.spool import spooled

AnswerFiles: TypeAlias = dict[str, IO[bytes]]
"""Files by name; see `spooled`."""


def picture_file(generated: Generated, document: Picture) -> AnswerFiles:
    """Write the picture in the wanted form, with its mark."""
    chosen, trust = generated.admitted.chosen, generated.trust
    fingerprint, upload = chosen.pipeline.fingerprint, generated.admitted.decoded.image
    attached = Attached(
        text=trust.text if trust else {**UNMASKED_TEXT, "trustscale:fingerprint": fingerprint},
        metadata=upload.metadata.enlarged(generated.scale),
        pages=Pages(trust.mask, trust.codes) if trust else None,
        raster=upload.raster,
    )
    # The share that is trusted belongs to the mask, which is a file of its own.
    mark = replace(mark_of(document, fingerprint, "picture"), share=None)
    file = spooled(
        write_marked,
        generated.picture,
        chosen.picture_format.name,
        mark,
        quality=chosen.picture_format.quality,
        attached=attached,
    )
    return {chosen.picture_format.file: file}


def trust_cog_file(generated: Generated, trust: Trust) -> AnswerFiles:
    """Write the trust levels as a Cloud Optimized GeoTIFF."""
    metadata = generated.admitted.decoded.image.metadata.enlarged(generated.scale)
    return {TRUST_COG: spooled(write_trust_cog, trust.codes, trust.text, metadata)}


def believed_file(generated: Generated, trust: Trust, result: Result, rest: bytes) -> AnswerFiles:
    """Write `believed.png`; rest: the file of the upload."""
    chosen, upload = generated.admitted.chosen, generated.admitted.decoded.image
    attached = Attached(trust.text, Metadata(xmp=upload.metadata.xmp))
    mark = mark_of(result, chosen.pipeline.fingerprint, "believed")
    visible = to_8_bit(generated.picture)
    file = spooled(write_believed, visible, trust.mask, rest, result.believed, attached, mark)
    return {BELIEVED: file}


def safe_files(generated: Generated, trust: Trust, result: Result) -> AnswerFiles:
    """Write `safe.png` and `added.png`."""
    added, upload = generated.added, generated.admitted.decoded.image
    assert added is not None  # noqa: S101 - else the answer says that there is no such file
    is_known = result.added is not None and result.added.held is not None
    held = trust.request.applicable.subset.added_threshold(RHO) if is_known else None
    width, height = result.reduced_from or (result.width, result.height)
    places = zones(added, held, (height, width), (result.height, result.width))
    mark = mark_of(result, generated.admitted.chosen.pipeline.fingerprint, "safe")
    xmp = Metadata(xmp=upload.metadata.xmp)
    return {
        SAFE_COPY: spooled(write_safe, upload.rgb, generated.picture, added, xmp, mark),
        ADDED: spooled(write_png, places),
    }
