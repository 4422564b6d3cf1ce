"""What a calibration says of itself and of its pairs, all but the arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from trustscale_server import __version__
from trustscale_server.calibration.guarantee import LEVELS, AnyGuarantee, Expectation
from trustscale_server.calibration.review import ReviewSettings
from trustscale_server.conformal import LossCurve
from trustscale_server.images.degrade import MadeBy, Mixture
from trustscale_server.sampling.pipeline import Pipeline

# Before the name of the admin, the reason of a pair that was taken out.
REMOVED: Final = "removed by "


class PairInfo(BaseModel):
    """What is kept of one pair besides its losses. Sizes are those of Y in pixels.

    group, scene: see `layout.py`; a pair without a scene is its own.
    variant: the way in which X was made, where one Y gave several pairs; they are one scene.
    input_class, facts: of X (`app/images/facts.py`).
    pixels_sha256: of Y decoded, whatever its file.
    off, high_sigma: of the whole picture (`app/conformal/review.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    x_sha256: str
    y_sha256: str
    pixels_sha256: str
    width: int
    height: int
    seed: int
    mean_log_sigma: float
    group: str | None = None
    scene: str | None = None
    variant: str | None = None
    input_class: str | None = None
    facts: dict[str, float] | None = None
    off: tuple[float, ...] = ()
    high_sigma: tuple[float, ...] = ()

    @property
    def source(self) -> str:
        """The name of the upload: that of the pair without its variant."""
        return self.name if self.variant is None else self.name.removesuffix(f"~{self.variant}")


def scene_of(pair: PairInfo) -> tuple[str, str]:
    """Return the scene of a pair; a pair that names none is its own."""
    return ("pair", pair.source) if pair.scene is None else ("scene", pair.scene)


class Provenance(BaseModel):
    """Where a calibration comes from.

    settings: a digest for each setting of the upscaler (`settings_of`).
    request: `CalibrationRequest.key` of what was measured for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    software: str = f"trustscale {__version__}"
    created_by: str = "local"
    parent: str | None = None
    note: str | None = None
    attributions: list[str] = Field(default_factory=list)
    settings: dict[str, str] = Field(default_factory=dict)
    request: str | None = None


class Manifest(BaseModel):
    """All that a calibration stores but its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = None
    upscaler: str
    created_at: datetime
    pipeline: Pipeline
    default_alpha: float = Field(LEVELS["balanced"], gt=0)
    guarantee: AnyGuarantee = Expectation()
    review: ReviewSettings = ReviewSettings()
    degradation: MadeBy | None = None
    seed: int = 0
    pairs: list[PairInfo]
    skipped: list[dict[str, Any]] = Field(default_factory=list)
    provenance: Provenance = Provenance()

    @property
    def shares(self) -> Mapping[str, int]:
        """The share of each way of making X, by its name; none where X was given or made in one."""
        made_by = self.degradation
        return (
            {way: made_by.share(way) for way in made_by.variants()}
            if isinstance(made_by, Mixture)
            else {}
        )


@dataclass(frozen=True, slots=True)
class MeasuredPair:
    """One pair after generation.

    loss_curves: of its spots, `coarse`; of the whole picture where the promise is about that.
    """

    info: PairInfo
    loss_curves: Sequence[LossCurve]
    sigma_quantiles: NDArray[np.float32]
