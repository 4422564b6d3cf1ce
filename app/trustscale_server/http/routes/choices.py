"""What a form for a calibration needs first: the choices, and which file names make pairs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from trustscale_server.calibrating.config import CalibrationConfig
from trustscale_server.calibrating.intake.arrange import arrange
from trustscale_server.calibrating.intake.layout import place_of
from trustscale_server.calibration.insight import Item
from trustscale_server.conformal.error_metrics import METRICS, ErrorUnit
from trustscale_server.conformal.fidelity import FidelitySettings
from trustscale_server.http.access import AdminDep, admin_router
from trustscale_server.http.pairs_form import calibration_config_of
from trustscale_server.http.problems import problem_responses
from trustscale_server.http.state import StateDep
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.sampling.sigma.estimators import ESTIMATORS
from trustscale_server.things import reading

_MAX_NAMES: Final = 100_000  # the files of the largest upload, and some more

router = admin_router()


class MetricOption(BaseModel):
    """A fidelity metric: `metric` is what `config.fidelity` takes."""

    metric: str
    title: str
    summary: str = Field(description="What the metric measures, in a few words.")
    bound: float = Field(description="The largest value that it can take.")
    loss_clipped_at: float = Field(description="B, unless the request names another one.")
    error_unit: ErrorUnit
    needs_label: bool = Field(description="Whether people mark errors.")
    blurs: bool = Field(description="Whether `blur` changes it.")


class EstimatorOption(BaseModel):
    """An estimator of σ: `estimator` is what `config.indecision` takes."""

    estimator: str
    title: str
    least_samples: int = Field(description="The smallest M at which it is defined.")
    smooths: bool = Field(description="Whether kernel, size, blur and clip_quantile change it.")
    takes_fit: bool = Field(description="Whether its weights are fitted for the calibration.")


class OptionsOut(BaseModel):
    """The registries; the first row of each is the default."""

    metrics: list[MetricOption]
    estimators: list[EstimatorOption]
    usual_kinds: int = Field(
        description="Kinds of upload that each truth is measured as, unless X is sent or described."
    )
    default_alpha: float = Field(
        description="The default α of a calibration, unless its request names another one."
    )


@router.get("/options")
async def list_options(_: AdminDep) -> OptionsOut:
    """List the metrics that a calibration can bound, and the estimators of σ."""
    return OptionsOut(
        usual_kinds=len(TYPICAL_UPLOADS.variants()),
        default_alpha=CalibrationConfig().default_alpha,
        metrics=[option for option in map(_metric_option, METRICS) if option is not None],
        estimators=[
            EstimatorOption(estimator=name, **asdict(row)) for name, row in ESTIMATORS.items()
        ],
    )


class NamesIn(BaseModel):
    """The paths of files in a folder or an archive, with forward slashes."""

    model_config = ConfigDict(extra="forbid")

    names: list[Annotated[str, Field(max_length=4096)]] = Field(max_length=_MAX_NAMES)
    folders: bool = Field(
        False, description="Whether images in DIR/NAME, without x/ and y/, are truths in groups."
    )
    pixels: dict[str, str] = Field(
        default_factory=dict,
        max_length=_MAX_NAMES,
        description="By the path of a truth, the SHA-256 of `HEIGHTxWIDTH:` and its RGB "
        "bytes, row by row.",
    )
    upscaler: str | None = Field(
        None, description="The upscaler that is calibrated, which `pixels` are compared for."
    )
    metric: str | None = Field(None, description="The fidelity metric of this calibration.")


class ArrangedPair(BaseModel):
    """One pair, its files by their paths."""

    name: str
    x: str | None
    y: str
    label: str | None
    enlarged: str | None
    group: str | None


class ArrangedOut(BaseModel):
    """What a calibration would make of files of these names."""

    pairs: list[ArrangedPair]
    groups: list[str]
    items: list[Item] = Field(description="Files that cannot be used, and why.")
    used: list[str] = Field(
        description="Pairs whose photograph σ was fitted on, by its `pixels`: they cannot be used."
    )


@router.post(
    "/pairs/check",
    responses=problem_responses("bad-request", "not-found"),
    max_body_size=16 * 2**20,  # with the digests of their pixels
)
async def check_pairs(files: NamesIn, state: StateDep, _: AdminDep) -> ArrangedOut:
    """Check by their names which files make pairs, in which groups, and what is wrong.

    Sizes and contents are checked when the files are sent.
    """
    arranged = await asyncio.to_thread(arrange, map(place_of, files.names), folders=files.folders)
    fitted_on: set[str] = set()
    if files.pixels:
        fidelity = {} if files.metric is None else {"fidelity": {"metric": files.metric}}
        config = calibration_config_of(json.dumps({"upscaler": files.upscaler, **fidelity}))
        fitted_on = await state.services.creator.fitted_on(config, files.pixels)
    return ArrangedOut(
        used=[pair.name for pair in arranged.pairs if pair.paths["y"] in fitted_on],
        pairs=[
            ArrangedPair(
                name=pair.name,
                x=pair.paths.get("x"),
                y=pair.paths["y"],
                label=pair.paths.get("labels"),
                enlarged=pair.paths.get("enlarged"),
                group=pair.group,
            )
            for pair in arranged.pairs
        ],
        groups=sorted({pair.group for pair in arranged.pairs if pair.group is not None}),
        items=[Item(**item) for item in arranged.items],
    )


def _metric_option(name: str) -> MetricOption | None:
    """Describe a metric; None: a package that it needs is not installed."""
    settings = FidelitySettings(metric=name)
    if reading.missing(settings.reader):
        return None
    row = settings.spec
    fields = {
        **asdict(row),
        "loss_clipped_at": row.loss_clipped_at or row.bound,
        "needs_label": row.needs_label,
    }
    return MetricOption(metric=name, **fields)
