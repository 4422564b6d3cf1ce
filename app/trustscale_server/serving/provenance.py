"""What the files of an answer say about their origin: marks (`proof/marks.py`), and texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from trustscale_server import __version__
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantees import GuaranteeSettings
from trustscale_server.proof.marks import Mark, PictureKind
from trustscale_server.serving.document import Picture, Result

UNMASKED_TEXT: Final = {"Software": f"trustscale {__version__}", "trustscale:mask": "none"}
"""Text chunks of a picture without a mask."""


def mark_of(
    answer: Picture,
    version: str,
    kind: PictureKind,
    alpha: float | None = None,
    share: float | None = None,
) -> Mark:
    """Return the mark of the picture of an answer, or of a drawing under its mask or another α's.

    version: the fingerprint of its pipeline. share: that the other mask trusts; None: unknown.
    """
    width, height = answer.reduced_from or (answer.width, answer.height)
    upload = width // answer.scale, height // answer.scale
    mark = Mark(
        kind=kind,
        upscaler=answer.upscaler,
        version=version,
        scale=round(answer.width / upload[0], 3),
        upload=upload,
        size=(answer.width, answer.height),
    )
    if not isinstance(answer, Result):
        return mark
    is_own = alpha is None or alpha == answer.alpha
    is_promised = is_own and answer.guarantee.promised
    return replace(
        mark,
        calibration=answer.calibration,
        alpha=answer.alpha if is_own else alpha,
        share=answer.trusted_fraction if is_own else share,
        about=answer.guarantee.about,
        promise=answer.guarantee.plain if is_promised else "",
    )


def png_text(
    calibration: Calibration,
    promise: GuaranteeSettings,
    alpha: float,
    threshold: float,
    group: str | None,
    input_class: str | None,
) -> dict[str, str]:
    """Return text chunks that say where a file comes from; threshold: t_α of the mask."""
    chunks = {"trustscale:group": group} if group is not None else {}
    if input_class is not None:
        chunks["trustscale:input_class"] = input_class
    if (delta := promise.summary().delta) is not None:
        chunks["trustscale:delta"] = repr(delta)
    return {
        "Software": f"trustscale {__version__}",
        "trustscale:calibration": calibration.id,
        "trustscale:alpha": repr(alpha),
        "trustscale:threshold": repr(threshold),
        "trustscale:guarantee": promise.kind,
        "trustscale:fingerprint": calibration.pipeline.fingerprint,
        **chunks,
    }
