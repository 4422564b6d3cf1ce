"""The answer to one request: its JSON document, and its files with their provenance.

`promise.py` states the guarantee as text; `review_of` says whether the picture may go out without a
look (`app/conformal/evidence.py`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Annotated, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from pydantic import BaseModel, Field, TypeAdapter

from trustscale_server import __version__
from trustscale_server.calibration.guarantee import GuaranteeKind, Threshold
from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal.curve import minimal_n
from trustscale_server.conformal.evidence import TOLERANCES, p_value, passes
from trustscale_server.conformal.fidelity import ErrorUnit, LossUnit
from trustscale_server.conformal.lab import to_8_bit
from trustscale_server.errors import BadAlpha, BadRequest, NotFound
from trustscale_server.images.decode import Raster
from trustscale_server.images.drawings import composed, opaque_part, overlay
from trustscale_server.images.encode import (
    BEST_QUALITY,
    DEFAULT_QUALITY,
    FORMS,
    FormName,
    to_bytes,
    to_png,
    write_png,
)
from trustscale_server.sampling.pipeline import Prediction

_SHARE: Final = 0.01


class Review(BaseModel):
    """Whether a picture may go out without a look, by a criterion for all of its pixels."""

    accept: bool = Field(description="Whether it may; false also where the calibration is silent.")
    p_value: float = Field(
        gt=0, le=1, description="At most δ where it is accepted; batches are made of these."
    )
    delta: float
    tolerance: float
    share: float
    n: int = Field(description="Number of calibration pictures, one of each scene.")
    bad: str = Field(description="When a picture is bad, in words.")
    promise: str = Field(description="What is promised of such decisions.")
    reason: str | None = Field(None, description="Why it needs a look whatever its σ.")


def review_of(
    partition: Calibration, high: tuple[float, float], *, is_covered: bool, why_not: str | None
) -> Review | None:
    """Decide about a picture; None if the calibration kept no numbers for it.

    partition: of the calibration, for its class. high: `SigmaCounts.high` of its σ. is_covered:
    whether the calibration has such pictures. why_not: why nothing is promised of it; None:
    something is.
    """
    settings, row, known = (
        partition.manifest.review,
        partition.pipeline.fidelity.row,
        partition.report.one_of_each,
    )
    if not all(info.off for info in known):
        return None
    is_label = row.error_unit in {"label", "words"}
    tau, delta = settings.tolerance, settings.delta
    share = (0 if is_label else _SHARE) if settings.share is None else settings.share
    which = 0 if share else 1  # where one pixel is too many, the largest σ decides
    place = TOLERANCES.index(tau)
    highs = np.array([info.high_sigma[which] for info in known])
    bad = highs[[info.off[place] > share for info in known]]
    p = p_value(bad, len(known), high[which]) if is_covered else 1.0
    least = minimal_n(delta, 1.0)
    reason = why_not
    accept = why_not is None and passes(bad, highs, high[which], delta)
    if why_not is None and len(known) < least:
        reason = f"Fewer than {least} scenes accept no picture."
    elif why_not is None and p <= delta and not accept:
        reason = "Nearly all pictures of this class are bad, also those that look as good."
    of = "words" if row.reads else "pixels"
    criterion = f"more than {100 * share:g} % of its {of} are off by more than {tau:g}"
    if is_label and not share:
        criterion = "it holds an error"
    lightness = f", {100 * tau:g} of the 100 steps of lightness" if row.error_unit == "lab" else ""
    criterion += f" ({row.summary}{lightness})"
    return Review(
        accept=accept,
        p_value=p,
        delta=delta,
        tolerance=tau,
        share=share,
        n=len(known),
        bad=criterion,
        promise=f"With a probability of at most {delta:g}, over the draw of the {len(known)} "
        "calibration pictures and of a new one like them, a picture passes without a look although "
        f"{criterion}. That is of all pictures, not of those that pass.",
        reason=reason,
    )


MASK: Final = "mask.png"
TRUST: Final = "trust.png"
TRUST_COG: Final = "trust.cog.tiff"
BELIEVED: Final = "believed.png"
"""The picture where it is trusted, something plain elsewhere."""
REST: Final = "rest"
"""The stored file of that plain picture, for the masks of other α."""
UNMASKED: Final = {"Software": f"trustscale {__version__}", "trustscale:mask": "none"}
"""Text chunks of a picture without a mask."""
INPUT: Final = "input.digest"
"""The stored digest of the upload: equal for results of one image."""

_FADE: Final = 2  # pixels of the upload


class GuaranteeFacts(BaseModel):
    """What is promised; members that the kind lacks are null."""

    kind: GuaranteeKind = "expectation"
    delta: float | None = Field(
        None, description="δ, the probability that this calibration does not keep the promise."
    )
    tolerance: float | None = Field(
        None, description="probability: τ, which the largest error exceeds in few spots."
    )
    level: float | None = Field(
        None, description="probability: β, the share of those that do; the default α."
    )
    menu: list[float] | None = Field(
        None, description="post_hoc: the α that can be chosen after looking."
    )
    between: tuple[float, float] | None = Field(
        None, description="post_hoc: between which α can be chosen after looking."
    )


class Guarantee(GuaranteeFacts):
    """The promise about the mask, and what would void it."""

    metric: str
    error: str = Field("error", description="What is bounded, in a few words.")
    error_unit: ErrorUnit | None = Field(
        None,
        description="Of the error: lab, L1 in normalised CIELAB; ssim, (1 − SSIM)/2; label, 1 "
        "where marked; words, a share of words.",
    )
    alpha: float
    bound: float = Field(description="B, the largest loss; of the kind probability 1.")
    loss_clipped_at: float | None = Field(
        None, description="c, where larger errors count as c; null: errors are not cut."
    )
    n: int = Field(description="Number of calibration scenes, of the group and class in question.")
    pairs: int = Field(0, description="Number of their pairs: several may show one scene.")
    calibrated_on: str = Field("", description="What the calibration's pictures are.")
    plain: str = Field("", description="The promise, for people who are no statisticians.")
    theorem: str = Field(description="The theorem.")
    lab_psnr_lower_bound_db: float | None
    promised: bool = Field(
        True, description="false: the upload is unlike what was calibrated, or nothing is trusted."
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
    void_if: list[str]


class ReadWord(BaseModel):
    """A word that the text reader reads in the picture."""

    box: list[tuple[float, float]] = Field(
        description="Its corners (x, y) in pixels of the picture, in order around it from where "
        "the word begins.",
    )
    text: str
    trusted: bool = Field(description="Whether all of its box is in the mask: it is called right.")
    trust_level: float | None = Field(
        description="The smallest α at which it is trusted; null: it never is."
    )

    def enlarged(self, scale: float) -> ReadWord:
        """Return the word in a picture that is so many times as large."""
        box = [(round(scale * x, 1), round(scale * y, 1)) for x, y in self.box]
        return self.model_copy(update={"box": box})


class BelievedPicture(BaseModel):
    """What `believed.png` is."""

    statement: str = Field(description="What is promised of it.")
    is_sent: bool = Field(description="Whether zips of this answer hold it (`believed=true`).")


class InputClass(BaseModel):
    """The class of the upload; its curve was used if n > 0."""

    name: str
    title: str = Field(description="In words.")
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
    trust_cog: str | None = Field(
        None,
        exclude_if=lambda link: link is None,
        description="With format=cog.tiff: the trust levels in such a file.",
    )


class Picture(BaseModel):
    """The part of an answer about its picture; sizes are those of the output in pixels."""

    id: str
    upscaler: str
    upscaler_reason: str | None = Field(
        None, description="Why this upscaler, where `auto` chose it; null: it was asked for."
    )
    scale: int
    width: int
    height: int
    reduced_from: tuple[int, int] | None = Field(
        None, description="With `to`: width and height before, of which the promise speaks."
    )
    samples: int
    seed: int
    prediction: Prediction
    format: str = Field("png", description="Of the picture.")
    quality: int | None = Field(None, description="Of a lossy format, where one was asked for.")
    raster: Raster | None = Field(
        None,
        description="Of files with pages, bands or a stretch: `page` of `pages`, `bands`, and what "
        "the values v of 16 bits mean: low + (high − low) · v / 65535, of each band.",
    )
    warnings: list[str]
    timings_ms: dict[str, float]
    links: PictureLinks


class Unmasked(Picture):
    """The JSON answer with `mask=none`."""

    mask: Literal["none"] = "none"
    calibration: None = None
    alpha: None = None
    trusted_fraction: None = None
    guarantee: None = None


class Result(Picture):
    """The JSON answer of an upscaling request."""

    mask: Literal["trust"] = "trust"
    calibration: str
    group: str | None = Field(None, description="Group of images whose curve was used.")
    input_class: InputClass | None = Field(
        None, description="Class of the upload; null: the calibration has no classes."
    )
    alpha: float
    threshold: Threshold = Field(description="t_α; trusted is σ < t_α.")
    trusted_fraction: float = Field(
        ge=0, le=1, description="Trusted of the pixels that are wholly opaque."
    )
    opaque_fraction: float = Field(
        1.0, ge=0, le=1, description="Wholly opaque of all pixels; no other is judged."
    )
    guarantee: Guarantee
    review: Review | None = Field(
        None,
        description="Whether the whole picture may go out without a look; null: the calibration "
        "kept nothing that could tell.",
    )
    believed: BelievedPicture
    typicality: float = Field(gt=0, le=1)
    out_of_distribution: bool = Field(
        False, description="Whether `typicality` is so small that it is warned of."
    )
    words: list[ReadWord] | None = Field(
        None, description="With a calibration for text: what the text reader reads."
    )
    links: Links

    def part_of(self, calibration: Calibration) -> Calibration:
        """Return the part of its calibration that gave the mask."""
        name = self.input_class.name if self.input_class else None
        return calibration.partitions.under(self.guarantee.kind).partitions.part(self.group, name)


_STORED: Final[TypeAdapter[Result | Unmasked]] = TypeAdapter(
    Annotated[Result | Unmasked, Field(discriminator="mask")]
)


def stored_picture(document: bytes) -> Result | Unmasked:
    """Return the document of a stored answer."""
    return _STORED.validate_json(document)


def stored_result(document: bytes) -> Result:
    """Return the document of a stored answer with a mask. Raises NotFound: it has none."""
    answer = stored_picture(document)
    if isinstance(answer, Unmasked):
        raise NotFound(
            f"{answer.id} was asked for with mask=none: it has no mask and no guarantee."
        )
    return answer


def check_alpha(alpha: float | None, default: float) -> float:
    """Return the α of a request, or the default. Raises BadAlpha unless it is finite and ≥ 0."""
    if alpha is None:
        return default
    if not (alpha >= 0 and math.isfinite(alpha)):
        raise BadAlpha(f"alpha must be a finite number of at least 0, got {alpha}.")
    return alpha


@dataclass(frozen=True, slots=True)
class ChosenForm:
    """The form of one answer's picture."""

    name: FormName
    quality: int | None

    @property
    def file(self) -> str:
        """The name of the picture's file."""
        return f"image.{self.name}"

    @property
    def holds_pages(self) -> bool:
        """Whether the file holds the mask and the trust levels, too."""
        return self.name.endswith("tiff")

    @property
    def bytes_per_pixel(self) -> int:
        """The most memory that making the file takes, besides the picture."""
        return FORMS[self.name].bytes_per_pixel(self.quality or DEFAULT_QUALITY)

    @property
    def is_lossless(self) -> bool:
        """Whether the file holds exactly the pixels that the mask describes."""
        return FORMS[self.name].is_lossless(self.quality)

    def check(self, longest: int, *, transparent: bool, is_16_bit: bool = False) -> None:
        """Raise BadRequest if the form cannot hold a picture with this longest side."""
        form = FORMS[self.name]
        if longest > form.most:
            raise BadRequest(f"format={self.name} holds at most {form.most:,} pixels a side.")
        if is_16_bit and not form.holds_16_bit:
            raise BadRequest(
                f"format={self.name} holds 8 bits, and stretch makes 16: choose png or a tiff."
            )
        if transparent and not form.alpha:
            raise BadRequest(
                f"The image has transparent pixels, which format={self.name} cannot hold: choose "
                "another format, or send background=white."
            )

    def warnings(self) -> list[str]:
        """Return the warning of a lossy form, if it is one."""
        if self.is_lossless:
            return []
        warning = (
            f"The picture was compressed as {self.name} after the mask was made: the promise "
            "speaks about the picture before that (format=png or tiff)."
        )
        return [warning]


def form_of(name: str, quality: int | None) -> ChosenForm:
    """Return the form that a request names. Raises BadRequest: no such form or quality."""
    if name not in FORMS:
        raise BadRequest(f"format must be one of {', '.join(FORMS)}.")
    form = cast("FormName", name)
    if quality is not None and FORMS[form].lossless:
        raise BadRequest(f"format={form} is lossless: it has no quality.")
    if quality is not None and not 1 <= quality <= BEST_QUALITY:
        raise BadRequest(f"quality must be between 1 and {BEST_QUALITY}.")
    return ChosenForm(form, quality)


def image_file(result: Picture) -> str:
    """Return the name of the picture's file in a stored result."""
    return result.links.image.rsplit("/", 1)[-1]


def png_text(
    calibration: Calibration,
    partition: Calibration,
    alpha: float,
    group: str | None = None,
    input_class: str | None = None,
) -> dict[str, str]:
    """Return text chunks that say where a file comes from; `partition` gave the mask."""
    promise = partition.guarantee
    facts = {"trustscale:group": group} if group is not None else {}
    if input_class is not None:
        facts["trustscale:input_class"] = input_class
    if (delta := promise.facts()["delta"]) is not None:
        facts["trustscale:delta"] = repr(delta)
    return {
        "Software": f"trustscale {__version__}",
        "trustscale:calibration": calibration.id,
        "trustscale:alpha": repr(alpha),
        "trustscale:threshold": repr(partition.curve.threshold(alpha)),
        "trustscale:guarantee": promise.kind,
        "trustscale:fingerprint": calibration.pipeline.fingerprint,
        **facts,
    }


def read_mask(data: bytes) -> tuple[NDArray[np.bool_], dict[str, str]]:
    """Return a stored mask, bool [H, W], and the text chunks of its file."""
    with Image.open(io.BytesIO(data)) as file:
        assert isinstance(file, PngImageFile)  # noqa: S101 - masks are made by `to_png`
        return np.asarray(file), dict(file.text)


def read_codes(data: bytes) -> NDArray[np.uint16]:
    """Return the stored trust levels, uint16 [H, W] (`StepCurve.trust_code`)."""
    with Image.open(io.BytesIO(data)) as file:
        return np.asarray(file).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class FallbackLayer:
    """What fills the untrusted part: its description and its file."""

    believed: BelievedPicture
    data: bytes


def believed_of(*, blurs: bool, is_sent: bool) -> BelievedPicture:
    """Return the file's description; `blurs` says that an error is a mean over neighbours."""
    statement = (
        "Inside the mask these are the pixels of the picture, unchanged, and the promise about "
        "the mask is about them. Outside it is the upload, enlarged without a model and faded in "
        "beside the mask: nothing is promised of it."
    )
    if blurs:
        statement += (
            " The error at a pixel is a mean over its neighbours in the picture itself, also where "
            "this file shows something else."
        )
    return BelievedPicture(statement=statement, is_sent=is_sent)


def write_believed(
    out: IO[bytes],
    rgb: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    rest: FallbackLayer,
    text: Mapping[str, str],
    scale: float,
) -> None:
    """Write `believed.png`; scale: width of the picture over that of the upload."""
    with Image.open(io.BytesIO(rest.data)) as plain:
        drawn = composed(rgb, mask, plain.convert("RGB"), max(1, round(_FADE * scale)))
    write_png(out, drawn, {**text, "trustscale:believed": rest.believed.statement})


def png_believed_of(result: Result, image: bytes, mask: bytes, rest: bytes) -> bytes:
    """Make `believed.png` of a stored answer under a mask file, with the mask's text."""
    trusted, text = read_mask(mask)
    scale = result.scale * result.width / (result.reduced_from or (result.width,))[0]
    with Image.open(io.BytesIO(image)) as picture:
        pixels = pixels_of(picture)
    return to_bytes(write_believed)(
        pixels, trusted, FallbackLayer(result.believed, rest), text, scale
    )


def png_overlay(image: bytes, mask: bytes) -> bytes:
    """Make the overlay of a stored picture and its mask file, with the mask's text."""
    trusted, text = read_mask(mask)
    with Image.open(io.BytesIO(image)) as picture:
        pixels = pixels_of(picture)
    drawn, opaque = pixels.copy(), opaque_part(pixels)
    judged = trusted if opaque is None else trusted | ~opaque
    drawn[..., :3] = overlay(pixels[..., :3], judged)
    return to_png(drawn, text)


def pixels_of(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a stored picture, uint8 [H, W, 3], or 4 where it has transparent pixels."""
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.uint16)
        return np.repeat(to_8_bit(levels)[..., np.newaxis], 3, axis=2)
    return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
