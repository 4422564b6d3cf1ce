"""A calibration of the same pairs, under another guarantee or bound of errors."""

from __future__ import annotations

from dataclasses import replace

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantees import GuaranteeSettings
from trustscale_server.conformal import fidelity
from trustscale_server.platform.errors import BadRequest, Conflict
from trustscale_server.sampling.spec import MeasurementSpec


def terms_of(
    parent: Calibration, guarantee: GuaranteeSettings | None, bound: float | None
) -> tuple[GuaranteeSettings, MeasurementSpec]:
    """Return guarantee and pipeline of a derived calibration; what is None is the parent's.

    bound: c, what errors are counted up to.

    Raises:
        Conflict: nothing would change, or errors were cut below `bound`.
        BadRequest: the bound is not a sensible positive number.
    """
    if guarantee is not None and "robust" not in guarantee.model_fields_set:
        guarantee = guarantee.model_copy(update={"robust": parent.guarantee.robust})
    guarantee = (guarantee or parent.guarantee).fitted_to(parent.pipeline.indecision)
    bound = parent.error_bound if bound is None else bound
    if (guarantee, bound) == (parent.guarantee, parent.error_bound):
        raise Conflict("The calibration has this guarantee and bound already.")
    if bound > parent.error_bound and fidelity.clips(parent.pipeline.fidelity):
        raise Conflict(
            f"Errors above {parent.error_bound:g} were cut when the pairs were measured; what "
            "they were is not known any more."
        )
    try:
        settings = replace(parent.pipeline.fidelity, bound=bound)
        guarantee.raise_if_unsuited(settings)
    except ValueError as error:
        raise BadRequest(f"{error}.") from error
    return guarantee, parent.pipeline.model_copy(update={"fidelity": settings})


def derived(
    parent: Calibration,
    guarantee: GuaranteeSettings,
    pipeline: MeasurementSpec,
    *,
    name: str | None,
    created_by: str,
) -> Calibration:
    """Return a calibration of the parent's pairs under these terms, with its curve."""
    bound = fidelity.bound(pipeline.fidelity)
    pairs = [
        replace(pair, loss_curves=[curve.counted(bound) for curve in pair.loss_curves])
        for pair in parent.measured_pairs()
    ]
    calibration = parent.with_pairs(
        pairs,
        created_by=created_by,
        name=name or parent.manifest.name,
        guarantee=guarantee,
        pipeline=pipeline,
    )
    _ = calibration.curve  # made here, where no upload waits for it
    return calibration
