"""A calibration and a job as stores keep them."""

from datetime import UTC, datetime

from trustscale_server.stores.calibrations import CalibrationHead
from trustscale_server.stores.job_status import Job


def head(name, upscaler="span", *, day=1):
    return CalibrationHead(
        id=name,
        name=None,
        upscaler=upscaler,
        created_at=datetime(2026, 1, day, tzinfo=UTC),
        n=30,
        min_alpha=0.06,
        default_alpha=0.1,
        metric="neighborhood",
    )


def job(name="job", *, second=0):
    created = datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)
    return Job(id=name, kind="calibration", created_at=created, request={"α": [1, {"b": None}]})
