"""The answer to one request as a JSON document.

`promise.py` fills in the guarantee, `warnings.py` the warnings, `review.py` whether the picture may
go out without a look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantees import GuaranteeSummary, Threshold
from trustscale_server.calibration.subset import Subset
from trustscale_server.conformal.error_metrics import ErrorUnit
from trustscale_server.conformal.fidelity import LossUnit
from trustscale_server.images.stretch import Raster
from trustscale_server.sampling.prediction import PredictionRule
from trustscale_server.serving.added import AddedDetail
from trustscale_server.serving.batch import Adapted
from trustscale_server.serving.left_out import LeftOut, listed_corners
from trustscale_server.serving.review import Review

UNMASKED_WARNING: Final = (
    "There is no trust mask (mask=none): nothing says where this picture can be believed."
)

Detail = Literal["short", "full"]
"""How much an answer says: all, or without what only programs and statisticians need."""


def _optional(*names: str) -> ConfigDict:
    """In the schema these may be missing, as in short answers."""

    def drop(schema: dict[str, Any]) -> None:
        schema["required"] = [name for name in schema["required"] if name not in names]

    return ConfigDict(json_schema_extra=drop)


def in_detail(document: Mapping[str, Any], detail: Detail) -> dict[str, Any]:
    """Return the JSON of an answer; a short one lacks threshold, bound, `void_if` and nulls."""
    shown = dict(document)
    guarantee = shown.get("guarantee")
    if detail == "short" and guarantee is not None:
        del shown["threshold"]
        shown["guarantee"] = {
            name: value
            for name, value in guarantee.items()
            if value is not None and name not in {"bound", "void_if"}
        }
    return shown


class Guarantee(GuaranteeSummary):
    """The promise about the mask, and what would void it; with `detail=short` without nulls."""

    model_config = _optional("bound", "void_if", "lab_psnr_lower_bound_db")

    metric: str
    error: str = Field("error", description="What is bounded, in a few words.")
    error_unit: ErrorUnit | None = Field(
        None,
        description="The unit of the error: lab, L1 in normalised CIELAB; ssim, (1 − "
        "SSIM)/2; label, 1 where marked; words, a share of words.",
    )
    about: str = Field(
        "for colour",
        description="What a share in the mask can be relied on for, in words: for colour, for "
        "structure, for its values, for its words, by people's judgement.",
    )
    alpha: float
    bound: float = Field(
        description="B, the largest loss; of the kind probability 1 (`detail=full`)."
    )
    loss_clipped_at: float | None = Field(
        None, description="c, which larger errors count as; null if errors are not cut."
    )
    n: int = Field(description="Number of calibration scenes, of the group and class in question.")
    pairs: int = Field(
        0, description="The number of their pairs, of which several may show one scene."
    )
    calibrated_on: str = Field("", description="A description of the calibration's pictures.")
    plain: str = Field("", description="The promise, for people who are no statisticians.")
    theorem: str = Field(description="The promise as a theorem.")
    lab_psnr_lower_bound_db: float | None
    promised: bool = Field(
        True,
        description="Whether anything is promised; false if uploads like it were not "
        "calibrated, or nothing is trusted.",
    )
    unit: LossUnit = Field(
        "spot",
        description="What loses: a random spot of the output, `spot` pixels wide and high; the "
        "whole picture; or the words that are called right.",
    )
    spot: int = 128
    max_alpha: float = Field(
        description="From this α on the mask grows no more: larger errors were hardly ever made."
    )
    condition: str | None = Field(
        None,
        description="Of an upscaler of the kind supplied: what its owner states, and the promise "
        "rests on. Nobody can see it from outside.",
    )
    void_if: list[str] = Field(description="What would void it (`detail=full`).")


class ReadWord(BaseModel):
    """A word that the text reader reads in the picture."""

    box: list[tuple[float, float]] = Field(
        description="The corners (x, y) of its box in pixels of the picture, in order from "
        "where the word begins.",
    )
    text: str
    trusted: bool = Field(
        description="Whether its whole box is in the mask, so that it is called right."
    )
    trust_level: float | None = Field(
        description="The smallest α at which it is trusted; null if it never is."
    )

    def enlarged(self, scale: float) -> ReadWord:
        """Return the word in a picture that is `scale` times as large."""
        return self.model_copy(update={"box": listed_corners(self.box, scale)})


class BelievedPicture(BaseModel):
    """What `believed.png` is."""

    statement: str = Field(description="What is promised of `believed.png`.")
    is_sent: bool = Field(description="Whether zips of this answer hold it (`believed=true`).")


class InputClass(BaseModel):
    """The class of the upload; its curve was used if n > 0."""

    name: str
    title: str = Field(description="The class in words.")
    rule: str = Field(description="Name and version of the rule that the class follows from.")
    n: int = Field(description="Number of calibration scenes of this class.")


class PictureLinks(BaseModel):
    """Paths of the result and its picture, until they expire."""

    self: str
    image: str


class Links(PictureLinks):
    """Paths of the parts of the result, until they expire."""

    mask: str
    trust: str
    overlay: str
    believed: str
    card: str = Field("", description="The card; also as webp and jpeg.")
    added: str | None = Field(
        None,
        exclude_if=lambda link: link is None,
        description="Where detail is doubtful, unchanged or held up (`?rho=`).",
    )
    safe: str | None = Field(
        None,
        exclude_if=lambda link: link is None,
        description="The picture with its detail in proportion to how real it probably is.",
    )
    trust_cog: str | None = Field(
        None,
        exclude_if=lambda link: link is None,
        description="The trust levels as such a file, with format=cog.tiff.",
    )


class Picture(BaseModel):
    """The part of an answer about its picture; sizes are those of the output in pixels."""

    promised: bool = Field(
        default=False, description="Whether anything is promised of the mask of this picture."
    )
    plain: str = Field(
        "Nothing says where this picture can be relied on.",
        description="What was added, and what is promised, for people.",
    )
    warnings: list[str] = Field(description="What a careful reader must know, the gravest first.")
    added: AddedDetail | None = Field(
        None,
        description="What the model added and how much of it holds up; null of restorations, data "
        "and words.",
    )
    id: str
    upscaler: str
    upscaler_reason: str | None = Field(
        None, description="Why `auto` chose this upscaler; null if the request named it."
    )
    scale: int
    width: int
    height: int
    reduced_from: tuple[int, int] | None = Field(
        None,
        description="With `to`: width and height before the reduction, which the promise is about.",
    )
    samples: int
    seed: int
    prediction: PredictionRule
    format: str = Field("png", description="The format of the picture.")
    quality: int | None = Field(
        None, description="The quality of a lossy format, if the request named one."
    )
    raster: Raster | None = Field(
        None,
        description="For files with pages, bands or a stretch: `page` of `pages`, `bands`, "
        "and what the values v of 16 bits mean: low + (high − low) · v / 65535, "
        "of each band.",
    )
    timings_ms: dict[str, float]
    links: PictureLinks

    def promise(self) -> dict[str, str | float | bool | None]:
        """Return what logs and metrics say of its promise."""
        return {"promised": False}


class Unmasked(Picture):
    """The JSON answer with `mask=none`."""

    mask: Literal["none"] = "none"
    calibration: None = None
    alpha: None = None
    trusted_fraction: None = None
    guarantee: None = None


class Result(Picture):
    """The JSON answer of an upscaling request."""

    model_config = _optional("threshold")

    mask: Literal["trust"] = "trust"
    calibration: str
    group: str | None = Field(None, description="Group of images whose curve was used.")
    batch: Adapted | None = Field(
        None,
        exclude_if=lambda batch: batch is None,
        description="How the batch that the request names adapted the mask.",
    )
    input_class: InputClass | None = Field(
        None, description="The class of the upload; null if the calibration has no classes."
    )
    alpha: float
    threshold: Threshold = Field(
        description="t_α; a pixel with σ < t_α is trusted (`detail=full`)."
    )
    trusted_fraction: float = Field(
        ge=0, le=1, description="The share of the fully opaque pixels that is trusted."
    )
    opaque_fraction: float = Field(
        1.0,
        ge=0,
        le=1,
        description="The share of all pixels that is fully opaque; no other pixel is trusted.",
    )
    guarantee: Guarantee
    review: Review | None = Field(
        None,
        description="Whether the whole picture may go out without a look; null if the "
        "calibration cannot tell.",
    )
    believed: BelievedPicture
    safe: bool = Field(
        default=False,
        description="Whether zips of this answer hold `safe.png` and `added.png` (`safe=true`).",
    )
    card: bool = Field(
        default=False, description="Whether zips of this answer hold `card.png` (`card=true`)."
    )
    words: list[ReadWord] | None = Field(
        None, description="With a calibration for text: what the text reader reads."
    )
    left_out: list[LeftOut] = Field(
        default_factory=list,
        description="Faces, and text that is not called right: they are in no mask and have no "
        "trust level (`faces`, `letters`).",
    )
    links: Links

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_release(cls, data: Any) -> Any:
        if isinstance(data, dict) and "plain" not in data and isinstance(data["guarantee"], dict):
            return {**data, **{name: data["guarantee"][name] for name in ("promised", "plain")}}
        return data

    def promise(self) -> dict[str, str | float | bool | None]:
        """Return what logs and metrics say of its promise."""
        return {
            "promised": self.guarantee.promised,
            "calibration": self.calibration,
            "class": self.input_class.name if self.input_class else None,
            "alpha": self.alpha,
            "trusted": round(self.trusted_fraction, 3),
            "held": None if self.added is None else self.added.held,
        }

    def subset_of(self, calibration: Calibration) -> Subset:
        """Return the part of its calibration that gave the mask."""
        name = self.input_class.name if self.input_class else None
        promise = self.guarantee
        return calibration.applicable(self.group, name, promise.kind, promise.robust)
