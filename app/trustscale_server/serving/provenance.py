"""What the files of an answer say about their origin, as marks (`images/marks.py`)."""

from __future__ import annotations

from trustscale_server.images.marks import Mark, PictureKind
from trustscale_server.serving.document import Result


def upload_size(result: Result) -> tuple[int, int]:
    """Return width and height of what was enlarged."""
    width, height = result.reduced_from or (result.width, result.height)
    return max(1, width // result.scale), max(1, height // result.scale)


def scale_of(result: Result) -> float:
    """Return how many times as wide as the upload the picture is."""
    return result.width / upload_size(result)[0]


def mark_of(
    result: Result,
    version: str,
    kind: PictureKind,
    alpha: float | None = None,
    share: float | None = None,
) -> Mark:
    """Return the mark of a drawing of an answer under its mask, or under that of another α.

    version: the fingerprint of its pipeline. share: that the other mask trusts; None: unknown.
    """
    is_own = alpha is None or alpha == result.alpha
    is_promised = is_own and result.guarantee.promised
    return Mark(
        kind=kind,
        upscaler=result.upscaler,
        version=version,
        scale=round(scale_of(result), 3),
        upload=upload_size(result),
        size=(result.width, result.height),
        calibration=result.calibration,
        alpha=result.alpha if is_own else alpha,
        share=result.trusted_fraction if is_own else share,
        about=result.guarantee.about,
        promise=result.guarantee.plain if is_promised else "",
    )
