"""When a picture is bad, and how many may go out without a look."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from trustscale_server.conformal.review import TOLERANCES


class ReviewSettings(BaseModel):
    """When a picture is bad, and how many bad ones may be accepted; chosen in advance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerance: float = Field(0.1, description=f"τ, one of {', '.join(map(str, TOLERANCES))}.")
    share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="A picture is bad if more than this share of its pixels is off by more than τ. "
        "Default: 0.01; 0 for labels: one word that is read otherwise is too many.",
    )
    delta: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="δ, the largest share of new pictures that is bad and accepted.",
    )

    @field_validator("tolerance")
    @classmethod
    def _measured(cls, tolerance: float) -> float:
        if tolerance not in TOLERANCES:
            raise ValueError(f"τ is one of {', '.join(map(str, TOLERANCES))}")
        return tolerance
