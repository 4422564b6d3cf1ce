"""What admins are shown of one calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.calibrating import pair_pictures
from trustscale_server.calibration.active import Calibrations
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.changes import ServingChanges
from trustscale_server.calibration.guarantees import GuaranteeSummary
from trustscale_server.calibration.insight import (
    CalibratedClass,
    Group,
    Item,
    ThresholdRow,
    classes_of,
    groups_of,
    leaked,
    thresholds,
)
from trustscale_server.calibration.manifest import Described, PairInfo
from trustscale_server.calibration.soundness import Report
from trustscale_server.platform.abandoned import in_spare_thread
from trustscale_server.platform.errors import UpscalerUnavailable
from trustscale_server.sampling.spec import pipeline_differences
from trustscale_server.stores.blobs import Blobs
from trustscale_server.upscalers.base import Upscaler


class Difference(BaseModel):
    """A field in which the live pipeline differs from the calibrated one.

    settings: those of the upscaler that changed its fingerprint, where known.
    """

    field: str
    calibrated: Any
    live: Any
    settings: list[str] | None = None


class Leakage(BaseModel):
    """The bound that remains if so many of X were training images of the upscaler."""

    n_leaked: int
    bound: float


class CalibrationDetail(Described):
    """A calibration without its pairs; n and thresholds are of the group that was asked for.

    differences: from the live upscaler, which forbid serving; null: it cannot be reached or is not
    configured.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: str
    state: Literal["active", "ready"]
    n: int = Field(description="The number of scenes.")
    pairs: int = Field(description="The number of pairs, of which several may show one scene.")
    min_alpha: float = Field(description="The α below which nothing can be trusted.")
    bound: float = Field(description="B, the largest value the error can take.")
    differences: list[Difference] | None
    thresholds: list[ThresholdRow]
    made_by: str | None = Field(description="How X was made, in one sentence.")
    sizes: list[tuple[int, int]] = Field(
        description="Width and height of the originals, the most frequent first, at most 20."
    )
    skipped: list[Item]
    guarantee: GuaranteeSummary
    groups: list[Group]
    pictures: bool = Field(description="Whether any pictures of its pairs are kept.")
    classes: list[CalibratedClass]
    changes: ServingChanges = Field(description="What serving from it would change now.")
    leakage: Leakage | None = None
    report: Report | None = Field(None, description="Of all pairs; null of a group.")


class PairDetail(PairInfo):
    """A measured pair. Sizes are those of Y in pixels."""

    model_config = ConfigDict(extra="ignore")

    spots: int = Field(description="Windows of the output that the promise is about.")


async def detail(
    calibrations: Calibrations,
    upscalers: Mapping[str, Upscaler],
    blobs: Blobs,
    calibration: Calibration,
    group: str | None = None,
    *,
    n_leaked: int | None = None,
) -> CalibrationDetail:
    """Return the document of a calibration, or of a group of it.

    n_leaked: how many of X were training images of the model.

    Raises:
        BadGroup: it has no such group.
        BadRequest: it has fewer scenes, or no bound is known.
    """
    active = await calibrations.active_ids(calibration.manifest.upscaler)
    differing = _differences(upscalers, calibration)
    pictured = await pair_pictures.kept(blobs, calibration.id)
    changes = await calibrations.changes(calibration, force=True)
    report = await calibrations.report(calibration) if group is None else None

    def document() -> CalibrationDetail:
        subset = calibration.subset(group)
        leakage = None
        if n_leaked is not None:
            leakage = Leakage(n_leaked=n_leaked, bound=leaked(subset, n_leaked))
        made_by = calibration.manifest.degradation
        sizes = Counter((pair.width, pair.height) for pair in subset.infos)
        return CalibrationDetail.model_validate(
            {
                **{name: value for name, value in calibration.document.items() if name != "pairs"},
                "id": calibration.id,
                "state": "active" if calibration.id in active else "ready",
                "n": subset.n,
                "pairs": subset.pairs,
                "min_alpha": subset.min_alpha,
                "bound": subset.bound,
                "made_by": made_by and made_by.describe(calibration.pipeline.scale),
                "sizes": [size for size, _ in sizes.most_common(20)],
                "differences": differing,
                "thresholds": thresholds(subset),
                "guarantee": calibration.guarantee.summary(),
                "review": calibration.manifest.review,
                "groups": groups_of(calibration),
                "pictures": pictured,
                "classes": classes_of(subset),
                "changes": changes,
                "leakage": leakage,
                "report": report,
            }
        )

    return await in_spare_thread(document)


def _differences(
    upscalers: Mapping[str, Upscaler], calibration: Calibration
) -> list[dict[str, Any]] | None:
    upscaler = upscalers.get(calibration.manifest.upscaler)
    if upscaler is None:
        return None
    try:
        settings = calibration.manifest.provenance.settings
        return pipeline_differences(calibration.pipeline, upscaler, settings)
    except UpscalerUnavailable:
        return None
