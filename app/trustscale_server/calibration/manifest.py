"""What a calibration says of itself and of its pairs, all but the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from trustscale_server import __version__
from trustscale_server.calibration.guarantee_kinds import AnyGuarantee, Expectation
from trustscale_server.calibration.guarantees import LEVELS
from trustscale_server.calibration.review_settings import ReviewSettings
from trustscale_server.kinds.degradation import MadeBy, Mixture
from trustscale_server.sampling.spec import MeasurementSpec

_Side: TypeAlias = Annotated[int, Field(ge=1, le=2**24)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
_Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]

REMOVED: Final = "removed by "
"""Begins the reason of a pair that was taken out; the name of the admin follows."""


class PairInfo(BaseModel):
    """What is kept of one pair besides its losses. Sizes are those of Y in pixels.

    group, scene: see `calibrating/intake/grouping.py`; a pair without a scene is its own.
    variant: the way in which X was made, where one Y gave several pairs; they are one scene.
    input_class: of X (`kinds/features.py`).
    pixels_sha256: of Y decoded, whatever its file.
    off, high_sigma: of the whole picture (`conformal/review.py`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    x_sha256: str
    y_sha256: str
    pixels_sha256: str
    width: _Side
    height: _Side
    seed: Seed
    mean_log_sigma: Annotated[float, Field(ge=-1e6, le=1e6)]
    group: str | None = None
    scene: str | None = None
    variant: str | None = None
    input_class: str | None = None
    off: tuple[_Share, ...] = ()
    high_sigma: tuple[Annotated[float, Field(ge=0)], ...] = ()

    @property
    def upload(self) -> str:
        """The name of its files: that of the pair without its variant."""
        return self.name if self.variant is None else self.name.removesuffix(f"~{self.variant}")


def scene_of(pair: PairInfo) -> tuple[str, str]:
    """Return the scene of a pair; a pair that names none is its own."""
    return ("pair", pair.upload) if pair.scene is None else ("scene", pair.scene)


class Provenance(BaseModel):
    """Where a calibration comes from.

    settings: a digest for each setting of the upscaler (`settings_of`).
    enlarged_by: what enlarged the pictures, as the owner of a supplied upscaler states it.
    request: `CalibrationRequest.key` of what was measured for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    software: str = f"trustscale {__version__}"
    created_by: str = "local"
    parent: str | None = None
    note: str | None = None
    attributions: list[str] = Field(default_factory=list)
    settings: dict[str, str] = Field(default_factory=dict)
    enlarged_by: str | None = Field(None, exclude_if=lambda value: value is None)
    request: str | None = None


class Described(BaseModel):
    """What a calibration stores of itself and shows as it is."""

    model_config = ConfigDict(frozen=True)

    name: str | None = None
    upscaler: str
    created_at: AwareDatetime
    pipeline: MeasurementSpec
    default_alpha: float = Field(LEVELS["balanced"], gt=0, allow_inf_nan=False)
    review: ReviewSettings = ReviewSettings()
    degradation: MadeBy | None = Field(None, description="How X was made; null if X was given.")
    seed: Seed = 0
    provenance: Provenance = Provenance()

    @field_validator("created_at")
    @classmethod
    def _in_our_time(cls, at: datetime) -> datetime:
        if not 2000 <= at.year < 9999:  # other zones must have such a time, too
            raise ValueError("a year between 2000 and 9998 is needed")
        return at


class Manifest(Described):
    """All that a calibration stores but its arrays."""

    model_config = ConfigDict(extra="forbid")

    guarantee: AnyGuarantee = Expectation()
    pairs: list[PairInfo]
    skipped: list[dict[str, Any]] = Field(default_factory=list)

    @field_validator("pairs")
    @classmethod
    def _named_once(cls, pairs: list[PairInfo]) -> list[PairInfo]:
        seen: set[str] = set()
        for pair in pairs:
            if pair.name in seen:
                raise ValueError(f"two pairs are called {pair.name[:80]!r}")
            seen.add(pair.name)
        return pairs

    @field_validator("skipped")
    @classmethod
    def _with_reasons(cls, skipped: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for item in skipped:
            if not all(isinstance(item.get(field), str) for field in ("name", "reason")):
                raise ValueError("what was left out has a name and a reason")
        return skipped

    @property
    def shares(self) -> Mapping[str, int]:
        """The share of each way of making X, by its name; empty unless there are several."""
        made_by = self.degradation
        if not isinstance(made_by, Mixture):
            return {}
        return {way: made_by.share(way) for way in made_by.variants()}
