"""What a client asks for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trustscale_server import TRUSTED
from trustscale_server.calibration.guarantees import GuaranteeKind
from trustscale_server.conformal.robust import MAX_ROBUST
from trustscale_server.images.decoding.decode import KeepMetadata
from trustscale_server.images.encoding.encode import BEST_QUALITY, FormatName
from trustscale_server.images.stretch import Bands, Stretch
from trustscale_server.pixels.resize import LongestSide
from trustscale_server.platform.config_errors import mistakes
from trustscale_server.platform.errors import BadRequest
from trustscale_server.upscalers.base import MAX_REQUEST_SEED

Leaving = Literal["leave_out", "keep"]
"""Whether things of a kind are left out of masks."""


class UpscaleOptions(BaseModel):
    """What a person chooses for one upscaling.

    None is the default; so is an empty text, as forms send it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upscaler: str | None = Field(
        None,
        description="The name of an upscaler, or auto, by which the class of the upload "
        "decides; default: auto if its upscalers are configured, else the "
        "first.",
    )
    alpha: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description=f"The accepted error; default: the calibration's. {TRUSTED}",
        examples=[0.1],
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=MAX_REQUEST_SEED,
        description="The same seed and pipeline give the same bytes; default: it follows from the "
        "pixels of the image, so the same image gives the same answer.",
    )
    mask: Literal["trust", "none"] = Field(
        "trust",
        description="`none` gives the picture alone, which needs no calibration; nothing "
        "says where it can be trusted.",
    )
    background: str | None = Field(
        None, description="Colour that transparent pixels are flattened onto."
    )
    believed: bool = Field(
        default=False,
        description="Whether zips hold `believed.png`, too: the picture in the mask, "
        "outside of it something plain.",
    )
    safe: bool = Field(
        default=False,
        description="Whether zips hold `safe.png`, the picture with its detail in proportion to "
        "how real it probably is, and `added.png`, where detail is doubtful or holds up.",
    )
    without_promise: bool = Field(
        default=False,
        description="Whether a call that has a price is made although it is known that nothing "
        "will be promised of this image.",
    )
    card: bool = Field(
        default=False,
        description="Whether zips hold `card.png`, too: the picture with a caption that says what "
        "can be relied on.",
    )
    words: bool = Field(
        default=False,
        description="Whether the answer lists which words can be believed, by a calibration "
        "for text; mask, α and promise are about words then.",
    )
    faces: Leaving | None = Field(
        None,
        description="`leave_out` trusts no face at any α, since a promise about colours says "
        "nothing of who somebody is; `keep` trusts them like the rest. Default: the service's, "
        "`leave_out`.",
    )
    letters: Leaving | None = Field(
        None,
        description="The same of text that no calibration for words calls right, where the "
        "service can read.",
    )
    group: str | None = Field(
        None,
        description="The group of the calibration that this image belongs to, whose curve "
        "is used. Default: the curve of all images.",
    )
    batch: str | None = Field(
        None,
        max_length=64,
        description="The id of a batch (`POST /v1/batches`) that the image belongs to: the mask is "
        "smaller where pictures like those of the batch lose more. The promise stays the same.",
    )
    format: FormatName = Field(
        "png",
        description="The format of the picture; masks and trust levels are PNG files, and TIFF "
        "files hold the mask, too.",
    )
    quality: int | None = Field(
        None,
        ge=1,
        le=BEST_QUALITY,
        description="The quality of webp (100: lossless), avif and jpeg, 1 to 100; default: 90.",
    )
    metadata: KeepMetadata = Field(
        "none",
        description="`keep` copies camera, exposure, dates, author and description of the "
        "upload; `keep-gps` the place, too.",
    )
    fit: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="The longest side in pixels to which the image is reduced before upscaling.",
    )
    stretch: Stretch | None = Field(
        None,
        description="For data: the values that become the darkest and lightest of 16 bits, "
        "a window "
        "`LOW,HIGH` or percentiles `p1,p99` of the image. Default: the calibration's.",
    )
    bands: Bands | None = Field(
        None, description="Which band, or which three (`4,3,2`), of a TIFF file with several."
    )
    page: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="The page of a TIFF file with several, from 1; default: the first."
    )
    to: LongestSide | None = Field(
        None,
        description="The longest side of the picture, which is upscaled and then reduced to it: "
        "pixels, `4k`, `8k`, or a print such as `a3@300`. A pixel is trusted where all that it was "
        "made of is.",
        examples=["4k"],
    )
    scale: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="The picture is so many times as large as the image, at most as the model "
        "makes it: `to` relative to the image.",
        examples=[2],
    )
    guarantee: GuaranteeKind | None = Field(
        None,
        description="The kind of promise; default: the calibration's. `post_hoc`, also from "
        "a calibration in expectation, lets α be chosen after looking, from "
        "`trust.png` or by `?alpha=`.",
    )
    robust: float | None = Field(
        None,
        ge=1,
        le=MAX_ROBUST,
        description="Γ: the promise also holds if some pictures are up to Γ times as frequent as "
        "in the calibration; 1.25: also without the easiest fifth. Default: the calibration's.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value != ""}

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.to is not None and self.scale is not None:
            raise ValueError("scale and to both name the size of the picture: give one")
        return self

    @model_validator(mode="after")
    def _mask_is_wanted(self) -> Self:
        of_mask = [self.alpha, self.group, self.batch, self.guarantee, self.robust]
        of_mask += [self.faces, self.letters]
        is_drawn = self.believed or self.safe or self.card or self.words
        if self.mask == "none" and (is_drawn or any(value is not None for value in of_mask)):
            raise ValueError(
                "alpha, group, batch, guarantee, robust, believed, safe, card, words, faces and "
                "letters need a mask, and mask=none makes none"
            )
        return self

    def sized(self, shape: tuple[int, int], max_scale: int) -> Self:
        """Return the options with `to` in place of `scale`, for an image of this shape.

        Raises:
            BadRequest: a larger scale is asked for.
        """
        if self.scale is None:
            return self
        if self.scale > max_scale:
            raise BadRequest(
                f"The upscaler makes pictures ×{max_scale}; scale={self.scale:g} is more."
            )
        to = max(1, round(self.scale * max(shape)))
        return self.model_copy(update={"to": to, "scale": None})

    def chosen(self) -> dict[str, Any]:
        """Return the fields that a person chooses, as JSON values."""
        return self.model_dump(include=set(UpscaleOptions.model_fields))


class UpscaleRequest(UpscaleOptions):
    """The options of a request, with what the service adds.

    client: a digest of the client, with whom its job shares turns. key: the name of its key.
    keep_s: how long the result is kept. calibration: the id of one to be tried in place of the
    active ones. has_enlarged: whether a picture that somebody enlarged comes with the upload.
    """

    calibration: str | None = None
    has_enlarged: bool = False

    client: str | None = None
    key: str | None = None
    keep_s: float | None = None


def options_of(**given: Any) -> UpscaleRequest:
    """Make the request of these options; None is the default. BadRequest names all mistakes."""
    try:
        return UpscaleRequest(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise BadRequest(mistakes(error, UpscaleOptions)) from None
