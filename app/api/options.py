"""What can be chosen for a calibration, as forms offer it: the rows of the registries."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import BaseModel, Field

from app.api.deps import AdminDep, admin_router
from app.conformal.fidelity import METRICS, FidelitySettings, Labels, Unit
from app.conformal.indecision import ESTIMATORS
from app.images.degrade import USUAL

router = admin_router("options")


class MetricOption(BaseModel):
    """A fidelity metric: `metric` and `labels` are what `config.fidelity` takes."""

    metric: str
    labels: Labels
    listed: str = Field(description="Its name in lists of calibrations.")
    title: str
    words: str = Field(description="What it bounds, in a few words.")
    bound: float = Field(description="The largest value that it can take.")
    counted_up_to: float = Field(description="B, unless another one is asked for.")
    unit: Unit
    needs_label: bool = Field(description="Whether people mark the errors.")
    blurs: bool = Field(description="Whether `blur` changes it.")


class EstimatorOption(BaseModel):
    """An estimator of σ: `estimator` is what `config.indecision` takes."""

    estimator: str
    title: str
    least_samples: int = Field(description="M below which it says nothing.")
    smooths: bool = Field(description="Whether kernel, size, blur and clip_quantile change it.")
    takes_fit: bool = Field(description="Whether its weights are fitted for the calibration.")


class Options(BaseModel):
    """The registries; the first row of each is the default."""

    metrics: list[MetricOption]
    estimators: list[EstimatorOption]
    usual_kinds: int = Field(
        description="Kinds of upload that each truth is measured as, unless X is sent or described."
    )


@router.get("")
async def list_options(_: AdminDep) -> Options:
    """The fidelity metrics that a calibration can bound, and the estimators of σ."""
    return Options(
        usual_kinds=len(USUAL.variants()),
        metrics=[option for option in map(_metric, METRICS) if option is not None],
        estimators=[
            EstimatorOption(estimator=name, **asdict(row)) for name, row in ESTIMATORS.items()
        ],
    )


def _metric(key: str) -> MetricOption | None:
    """None: something that it needs is not installed."""
    metric, _, labels = key.partition(":")
    settings = FidelitySettings(metric=metric, labels="synthetic" if labels else "people")
    if settings.missing:
        return None
    row = settings.row
    given = {
        **asdict(row),
        "counted_up_to": row.counted_up_to or row.bound,
        "needs_label": row.needs_label,
    }
    return MetricOption(metric=metric, labels=settings.labels, listed=settings.title, **given)
