"""The options of an upscaling, in the form, in jobs and on the command line."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.calibration.guarantee import GuaranteeKind
from app.config_errors import mistakes
from app.errors import BadRequest
from app.images.decode import KeepMetadata
from app.images.encode import BEST_QUALITY, FormName
from app.images.raster import Bands, Stretch
from app.upscalers.seeds import MAX_REQUEST_SEED

Pixels = Annotated[int, Field(ge=1)]
MOST_PAGES: Final = 10_000


class UpscaleOptions(BaseModel):
    """What a person chooses. None is the default; so is an empty text, as forms send it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upscaler: str | None = Field(
        None,
        description="Name, or auto: the class of the upload decides; default: auto where its "
        "upscalers are there, else the first.",
    )
    alpha: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Largest expected error tolerated in the mask; default: the calibration's.",
        examples=[0.1],
    )
    seed: int | None = Field(
        None, ge=0, le=MAX_REQUEST_SEED, description="Same seed and pipeline: same bytes."
    )
    mask: Literal["trust", "none"] = Field(
        "trust",
        description="`none`: the picture alone. It needs no calibration, and nothing says where it "
        "can be trusted.",
    )
    background: str | None = Field(
        None, description="Colour that transparent pixels are flattened onto."
    )
    believed: bool = Field(
        default=False,
        description="Also `believed.png` in zips: the picture in the mask, outside of it something "
        "plain.",
    )
    group: str | None = Field(
        None,
        description="Group of images that this one belongs to, of those that the calibration has: "
        "its curve is used. Default: the curve of all images.",
    )
    format: FormName = Field(
        "png", description="Of the picture; masks and trust levels are PNG files."
    )
    quality: int | None = Field(
        None, ge=1, le=BEST_QUALITY, description="Of webp (100: lossless), avif, jpeg; default 90."
    )
    metadata: KeepMetadata = Field(
        "none",
        description="`keep`: camera, exposure, dates, author and description of the upload; "
        "`keep-gps`: the place, too.",
    )
    fit: Pixels | None = Field(
        None, description="Longest side in pixels that the image is reduced to before."
    )
    stretch: Stretch | None = Field(
        None,
        description="Of data: the values that become the darkest and lightest of 16 bits, a window "
        "`LOW,HIGH` or percentiles `p1,p99` of the image. Default: the calibration's.",
    )
    bands: Bands | None = Field(
        None, description="Which band, or which three, of a TIFF file with several."
    )
    page: Annotated[int, Field(ge=1, le=MOST_PAGES)] | None = Field(
        None, description="Of a TIFF file with several, from 1; default: the first."
    )
    to: Pixels | None = Field(
        None,
        description="Longest side in pixels of the picture, which is upscaled and then reduced to "
        "it; a pixel is trusted where all that it was made of is.",
    )
    guarantee: GuaranteeKind | None = Field(
        None,
        description="Default: the calibration's. `post_hoc`, also from one in expectation: α may "
        "be chosen after looking, from `trust.png` or by `?alpha=`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value != ""}

    @model_validator(mode="after")
    def _mask_is_wanted(self) -> Self:
        asked = self.believed or {self.alpha, self.group, self.guarantee} != {None}
        if self.mask == "none" and asked:
            raise ValueError(
                "alpha, group, guarantee and believed need a mask, and mask=none wants none"
            )
        return self

    def chosen(self) -> dict[str, Any]:
        """The fields that a person chooses, as JSON values."""
        return self.model_dump(include=set(UpscaleOptions.model_fields))


class UpscaleRequest(UpscaleOptions):
    """The options of a request, with what the service adds.

    client: a digest of the client, for the monitor. keep_s: how long the result is kept.
    """

    client: str | None = None
    keep_s: float | None = None


def options_of(**given: Any) -> UpscaleRequest:
    """The request of these options; None is the default. Raises BadRequest, naming all mistakes."""
    try:
        return UpscaleRequest(**{name: one for name, one in given.items() if one is not None})
    except ValidationError as error:
        raise BadRequest(mistakes(error, UpscaleOptions)) from None
