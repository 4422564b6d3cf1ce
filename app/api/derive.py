"""POST …/{id}/derive: the same pairs under another guarantee or bound."""

from __future__ import annotations

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.deps import AdminDep, StateDep, admin_router
from app.api.documents import CalibrationDetail, detail
from app.api.problems import problem_responses
from app.calibration.derive import derive
from app.calibration.guarantee import GuaranteeSettings

router = admin_router("calibrations", "not-found", "bad-request")


class FidelityIn(BaseModel):
    """Of the fidelity error, what can be changed without generating."""

    model_config = ConfigDict(extra="forbid")

    bound: float = Field(gt=0, allow_inf_nan=False, description="c: larger errors count as c.")


class DeriveIn(BaseModel):
    """What the new calibration differs in."""

    model_config = ConfigDict(extra="forbid")

    guarantee: GuaranteeSettings | None = Field(None, description="Default: that of the old one.")
    fidelity: FidelityIn | None = Field(None, description="Default: the bound of the old one.")
    name: str | None = Field(None, max_length=200, description="Default: that of the old one.")
    activate: bool = False
    force: bool = Field(False, description="Activate it also if it would serve worse.")

    @model_validator(mode="after")
    def _says_something(self) -> DeriveIn:
        if self.guarantee is None and self.fidelity is None:
            raise ValueError("name a guarantee, or a fidelity with a bound")
        return self


@router.post(
    "/{calibration_id}/derive",
    status_code=201,
    responses=problem_responses("conflict", "calibration-mismatch"),
)
async def derive_calibration(
    calibration_id: str, asked: DeriveIn, response: Response, state: StateDep, key: AdminDep
) -> CalibrationDetail:
    """A new calibration with another guarantee or bound, from the stored staircases, at once."""
    parent = await state.admin.finished(calibration_id)
    if asked.activate:
        # First, or a refusal would leave a calibration behind.
        await state.admin.check(parent)
    made = await derive(
        state.calibrations,
        state.stores.spool,
        parent,
        asked.guarantee,
        bound=asked.fidelity.bound if asked.fidelity else None,
        created_by=f"key {key}",
        name=asked.name,
        to_activate=asked.activate,
        force=asked.force,
    )
    activated = False
    try:
        if asked.activate:
            await state.admin.activate(made, force=asked.force)
            activated = True
    finally:  # it is stored, whatever has become of its activation
        await state.audit(
            "calibration.derive", key, parent=parent.id, calibration=made.id, activate=activated
        )
    response.headers["Location"] = f"{router.prefix}/{made.id}"
    return await detail(state, made)
