"""The document of an answer, from what was generated."""

from __future__ import annotations

from typing import Any

from trustscale_server.calibration.guarantees import threshold_json
from trustscale_server.serving.added import RHO, added_detail
from trustscale_server.serving.document import Links, Picture, PictureLinks, Result, Unmasked
from trustscale_server.serving.drawings import believed_of
from trustscale_server.serving.file_names import (
    ADDED,
    BELIEVED,
    CARD,
    MASK,
    SAFE_COPY,
    TRUST,
    TRUST_COG,
)
from trustscale_server.serving.generate import Generated
from trustscale_server.serving.left_out import why_look
from trustscale_server.serving.promise import guarantee
from trustscale_server.serving.review import review_of
from trustscale_server.serving.warnings import warnings_of


def document_of(generated: Generated, result_id: str, base: str) -> Picture:
    """Return the document of an answer; base: the path of its result."""
    admitted, chosen, trust = generated.admitted, generated.admitted.chosen, generated.trust
    about_picture = {"id": result_id, **_about_picture(generated)}
    links = {"self": base, "image": f"{base}/{chosen.picture_format.file}"}
    if trust is None:
        return Unmasked(
            **about_picture, warnings=list(admitted.warnings), links=PictureLinks(**links)
        )
    alpha, applicable = trust.request.alpha, trust.request.applicable
    trusted, opaque = trust.shares
    detail = None
    if generated.added is not None:
        held = applicable.subset.added_threshold(RHO)
        detail = added_detail(generated.added, held, RHO, why_not=applicable.why_not)
    promise = guarantee(applicable, alpha)
    return Result(
        promised=promise.promised,
        plain=promise.plain if detail is None else f"{detail.plain} {promise.plain}",
        added=detail,
        **about_picture,
        calibration=trust.request.calibration.id,
        group=applicable.group,
        input_class=applicable.document,
        alpha=alpha,
        threshold=threshold_json(applicable.curve.threshold(alpha)),
        batch=None if applicable.batch is None else applicable.batch.adapted,
        trusted_fraction=trusted,
        opaque_fraction=opaque,
        guarantee=promise,
        believed=believed_of(
            blurs=chosen.pipeline.fidelity.spec.blurs, is_sent=chosen.request.believed
        ),
        safe=chosen.request.safe and detail is not None,
        card=chosen.request.card,
        review=review_of(
            applicable.subset,
            trust.sigma_counts.high(),
            why_not=applicable.why_not or why_look(generated.left_out),
        ),
        warnings=warnings_of(
            applicable,
            alpha,
            trusted=trusted,
            notes=list(admitted.warnings),
            lossless=chosen.upscaler.capabilities.lossless,
        ),
        words=generated.words,
        left_out=generated.left_out,
        links=Links(
            **links,
            mask=f"{base}/{MASK}",
            trust=f"{base}/{TRUST}",
            overlay=f"{base}/overlay.png",
            believed=f"{base}/{BELIEVED}",
            card=f"{base}/{CARD}",
            added=f"{base}/{ADDED}" if detail else None,
            safe=f"{base}/{SAFE_COPY}" if detail else None,
            trust_cog=f"{base}/{TRUST_COG}" if chosen.picture_format.name == "cog.tiff" else None,
        ),
    )


def _about_picture(generated: Generated) -> dict[str, Any]:
    """The fields that need no mask."""
    admitted, chosen = generated.admitted, generated.admitted.chosen
    height, width = generated.picture.shape[:2]
    output_height, output_width = (side * chosen.pipeline.scale for side in admitted.shape)
    is_reduced = (width, height) != (output_width, output_height)
    return {
        "upscaler": chosen.upscaler.name,
        "upscaler_reason": chosen.why,
        "scale": chosen.pipeline.scale,
        "width": width,
        "height": height,
        "reduced_from": (output_width, output_height) if is_reduced else None,
        "samples": chosen.pipeline.samples,
        "seed": admitted.seed,
        "prediction": chosen.pipeline.prediction,
        "format": chosen.picture_format.name,
        "quality": chosen.picture_format.quality,
        "raster": admitted.decoded.image.raster,
        "timings_ms": dict(generated.timings_ms),
    }
