"""What is looked for in an upload, so that its mask leaves it out; known before any sample."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from trustscale_server.conformal.fidelity import FidelitySettings, ReaderSettings
from trustscale_server.kinds.features import UPLOAD, classify
from trustscale_server.serving.applicable import ApplicableCalibration
from trustscale_server.serving.choose import Chosen
from trustscale_server.serving.context import ServiceContext
from trustscale_server.serving.unread_text import WordsCalibration
from trustscale_server.serving.upload import DecodedUpload
from trustscale_server.things import reading
from trustscale_server.things.faces import FindFaces
from trustscale_server.things.lines import FindLines


@dataclass(frozen=True, slots=True)
class LookedFor:
    """How faces and lines of text are found; None: they are not looked for.

    words: what may call text right; None: nothing does.
    """

    find_faces: FindFaces | None = None
    find_lines: FindLines | None = None
    words: WordsCalibration | None = None


async def looked_for(
    context: ServiceContext, chosen: Chosen, decoded: DecodedUpload
) -> tuple[LookedFor, list[str]]:
    """Return what is looked for, and a warning where an upload looks like text and none is."""
    request, pipeline = chosen.request, chosen.pipeline
    if not is_about_colours(pipeline.fidelity) or pipeline.stretch is not None:
        return LookedFor(), []
    find_faces = context.find_faces if request.faces == "leave_out" else None
    if context.find_lines is None or request.letters != "leave_out":
        return LookedFor(find_faces), []
    if reading.missing(ReaderSettings()) is not None:
        return LookedFor(find_faces), _unread_warnings(decoded)
    words = await _for_words(context, chosen, decoded)
    return LookedFor(find_faces, context.find_lines, words), []


def is_about_colours(settings: FidelitySettings) -> bool:
    """Whether a promise is about colours or structure, and not about meaning or words.

    What a person judged, or a reader read, keeps its faces and letters: they are what it is about.
    """
    return settings.spec.error_unit not in {"label", "words"}


def _unread_warnings(decoded: DecodedUpload) -> list[str]:
    """The warning about an upload that looks like text, where no reader is installed."""
    if not classify(UPLOAD, decoded.features).endswith(("page", "line-art")):
        return []
    warning = (
        "This upload looks like text, which was not looked for: the mask is about colours, and "
        "says nothing of what is written (pip install '.[text]')."
    )
    return [warning]


async def _for_words(
    context: ServiceContext, chosen: Chosen, decoded: DecodedUpload
) -> WordsCalibration | None:
    """The calibration for words that may call some of the upload right."""
    priority = await context.calibrations.for_text(chosen.upscaler)
    if priority is None:
        return None
    height, width = (side * chosen.pipeline.scale for side in decoded.shape)
    whole = await asyncio.to_thread(priority.choose, decoded.features, height, width)
    applicable = ApplicableCalibration.from_calibration(
        whole, None, decoded.features, shape=(height, width)
    )
    return WordsCalibration(applicable.subset, applicable.is_covered)
