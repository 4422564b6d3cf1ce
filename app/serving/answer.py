"""The answer to one request: its JSON document, its files with their provenance, its promise.

`ApplicableCalibration` says what an answer is about, what is promised of it in words and numbers,
and the warnings; `review_of` whether the picture may go out without a look
(`app/conformal/curve.py`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Annotated, Final, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from pydantic import BaseModel, Field, TypeAdapter

from trustscale_server import __version__
from trustscale_server.calibration.guarantee import (
    REMOVED,
    ErrorQuantile,
    GuaranteeKind,
    GuaranteeSettings,
    PostHoc,
    Probability,
    Threshold,
    rounded_up,
)
from trustscale_server.calibration.record import Calibration
from trustscale_server.conformal.curve import (
    TOLERANCES,
    lab_psnr_lower_bound_db,
    minimal_n,
    p_value,
    passes,
)
from trustscale_server.conformal.fidelity import (
    ErrorUnit,
    FidelitySettings,
    LossUnit,
    clips,
    to_8_bit,
)
from trustscale_server.conformal.words import ANY
from trustscale_server.errors import BadAlpha, BadRequest, NotFound
from trustscale_server.images.decode import Raster
from trustscale_server.images.degrade import Mixture
from trustscale_server.images.description import InputFeatures, class_in_words
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

# --- Which pictures may go out without a look, by a calibration.

_SHARE: Final = 0.01


class Review(BaseModel):
    """Whether a picture may go out without a look, by a criterion for all of its pixels."""

    accept: bool = Field(
        description="Whether it may go out without a look; false also if the calibration "
        "cannot tell."
    )
    p_value: float = Field(
        gt=0,
        le=1,
        description="The p-value, at most δ if the picture is accepted; batches are decided "
        "by these.",
    )
    delta: float
    tolerance: float
    share: float
    n: int = Field(description="Number of calibration pictures, one of each scene.")
    bad: str = Field(description="When a picture is bad, in words.")
    promise: str = Field(description="What is promised of such decisions.")
    reason: str | None = Field(None, description="Why the picture needs a look, whatever its σ.")


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


# --- The answer to one request: its JSON document, and its files with their provenance.

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
        None,
        description="Of the kind probability: τ, which the largest error exceeds in few spots.",
    )
    level: float | None = Field(
        None,
        description="Of the kind probability: β, the share of those spots, which is the default α.",
    )
    menu: list[float] | None = Field(
        None, description="Of the kind post_hoc: each α that can be chosen after looking."
    )
    between: tuple[float, float] | None = Field(
        None, description="Of the kind post_hoc: the range of α that can be chosen after looking."
    )


class Guarantee(GuaranteeFacts):
    """The promise about the mask, and what would void it."""

    metric: str
    error: str = Field("error", description="What is bounded, in a few words.")
    error_unit: ErrorUnit | None = Field(
        None,
        description="The unit of the error: lab, L1 in normalised CIELAB; ssim, (1 − "
        "SSIM)/2; label, 1 where marked; words, a share of words.",
    )
    alpha: float
    bound: float = Field(description="B, the largest loss; of the kind probability 1.")
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
        description="Whether anything is promised; false if the upload is unlike what was "
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
    void_if: list[str]


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
        """Return the word in a picture that is so many times as large."""
        box = [(round(scale * x, 1), round(scale * y, 1)) for x, y in self.box]
        return self.model_copy(update={"box": box})


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
    trust_cog: str | None = Field(
        None,
        exclude_if=lambda link: link is None,
        description="The trust levels as such a file, with format=cog.tiff.",
    )


class Picture(BaseModel):
    """The part of an answer about its picture; sizes are those of the output in pixels."""

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
    prediction: Prediction
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
        None, description="The class of the upload; null if the calibration has no classes."
    )
    alpha: float
    threshold: Threshold = Field(description="t_α; a pixel with σ < t_α is trusted.")
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
    typicality: float = Field(gt=0, le=1)
    out_of_distribution: bool = Field(
        False, description="Whether `typicality` is so small that there is a warning."
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


# --- What an answer is about, what is promised of it in words and numbers, and the warnings.


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicableCalibration:
    """An upload, and the part of the calibration that applies to it.

    whole: the calibration. partition: those of its pairs whose curve is used.
    size: (height, width) of the output.
    input_class: of the upload, if the calibration has classes.
    is_covered: whether there were pairs like the upload, as far as classes show.
    """

    whole: Calibration
    partition: Calibration
    size: tuple[int, int]
    group: str | None = None
    input_class: str | None = None
    is_covered: bool = True

    @classmethod
    def of(
        cls,
        calibration: Calibration,
        group: str | None = None,
        facts: InputFeatures | None = None,
        *,
        size: tuple[int, int],
    ) -> Self:
        """Find the part for an upload of these facts and an output of this size.

        Raises BadGroup.
        """
        whole = calibration.partitions.of_group(group)
        name = None if facts is None else whole.partitions.class_of(facts)
        is_covered = facts is None or whole.partitions.covers(facts)
        return cls(
            whole=calibration,
            partition=whole.partitions.of_class(name),
            size=size,
            group=group,
            input_class=name,
            is_covered=is_covered,
        )

    @property
    def document(self) -> InputClass | None:
        """The class as the answer names it."""
        rule = self.whole.pipeline.input_rule
        if self.input_class is None or rule is None:
            return None
        return InputClass(
            name=self.input_class,
            title=class_in_words(self.input_class),
            rule=rule,
            n=self.partition.n if self.is_covered else 0,
        )

    def why_not(self, typicality: float) -> str | None:
        """Explain why nothing is promised of this upload; None if something is."""
        if self.input_class is not None and not self.is_covered:
            return (
                "The calibration has too few uploads like this one "
                f"({class_in_words(self.input_class)}; class {self.input_class!r}); calibrate with "
                "inputs like it"
            )
        if typicality <= self.partition.report.out_of_distribution:
            return (
                f"At most 1 in {math.floor(1 / typicality + 1e-9)} pictures like those that were "
                "calibrated look as strange as this upload, in detail, noise, colours or what was "
                "done to it before"
            )
        return None

    @property
    def scenes(self) -> str:
        """Say how many scenes there were, such as "40 calibration scenes (120 images) of the …"."""
        n, pairs = self.partition.n, self.partition.pairs
        words = f"{n} calibration images"
        if pairs > n:
            how = "each scene counting once"
            if isinstance(self.partition.manifest.degradation, Mixture):
                how = "each counting by how frequent its way is among uploads, a scene once at most"
            words = f"{n} calibration scenes ({pairs} images, {how})"
        if self.group is not None:
            words += f" of the group {self.group!r}"
        if self.input_class is not None and self.is_covered:
            words += f" whose input was of the class {self.input_class!r}"
            words += f" ({class_in_words(self.input_class)})"
        return words


_MOST_PAIRS: Final = 10**9  # more than anybody has


def guarantee(subject: ApplicableCalibration, alpha: float, typicality: float = 1.0) -> Guarantee:
    """Return the promise for a mask of this α on an output of this size."""
    calibration = subject.partition
    why_not = subject.why_not(typicality)
    settings = calibration.pipeline.fidelity
    counts_errors = not isinstance(calibration.guarantee, Probability)
    usual = calibration.usual(alpha)
    return Guarantee(
        **calibration.guarantee.facts(),
        metric=settings.metric,
        error=settings.row.summary,
        error_unit=settings.row.error_unit,
        alpha=alpha,
        bound=calibration.bound,
        loss_clipped_at=calibration.bound if counts_errors and clips(settings) else None,
        n=calibration.n,
        pairs=calibration.pairs,
        calibrated_on=calibration.report.made_of,
        plain=plain(subject, alpha, usual) if why_not is None else f"No promise. {why_not}.",
        theorem=theorem(subject, alpha, usual, why_not),
        lab_psnr_lower_bound_db=(
            lab_psnr_lower_bound_db(alpha)
            # A bound on spots does not bound the root mean square error of all of them.
            if counts_errors
            and settings.row.bounds_psnr
            and not clips(settings)
            and settings.unit == "picture"
            else None
        ),
        promised=why_not is None and calibration.shortfall(alpha) is None,
        unit=settings.unit,
        spot=settings.spot,
        max_alpha=calibration.max_alpha,
        void_if=_void_if(subject),
    )


def _void_if(subject: ApplicableCalibration) -> list[str]:
    calibration = subject.partition
    degradation = calibration.manifest.degradation
    result = "upscaled" if calibration.pipeline.scale > 1 else "restored"
    has_class = subject.input_class is not None and subject.is_covered
    origins = []
    # The class names the part of a mixture; otherwise it is only about the file.
    if degradation is not None and not (has_class and isinstance(degradation, Mixture)):
        origins.append(f"made by {degradation.describe(calibration.pipeline.scale)}")
    if subject.input_class is not None and subject.is_covered:
        origins.append(f"uploads {class_in_words(subject.input_class)}")
    ways = f" ({'; '.join(origins)})" if origins else ""
    unit = calibration.pipeline.fidelity.unit
    average = "many images" if unit == "words" else "spots of many images"
    reasons = [str(item.get("reason", "")) for item in calibration.manifest.skipped]
    removed = sum(reason.startswith(REMOVED) for reason in reasons)
    conditions = {
        f"an image from elsewhere, of another subject, camera or processing than the pairs{ways}": (
            True
        ),
        "choosing alpha after looking at this image or its mask": (
            not isinstance(calibration.guarantee, PostHoc)
        ),
        "keeping one of several results of an image after looking at them, be they of another "
        "seed, group, upscaler or calibration": True,
        "enlarging the mask (filling holes, dilating, interpolating); shrinking it is allowed": (
            True
        ),
        f"editing the {result} image, or using another upscaler's image with this mask": True,
        f"reading it as a promise about this one image: it is about the average over {average}": (
            True
        ),
        "pairs that show one scene (crops, frames, slices) and are not named as one, or scenes "
        "that brought more pairs because somebody found them interesting": True,
        "scenes that are no independent draws from one distribution": (
            calibration.guarantee.facts()["delta"] is not None
        ),
        f"pairs that were taken out because of their errors ({removed} were taken out by hand)": (
            removed > 0
        ),
        "choosing a spot after looking, or an upscaler that treats a part of a larger image "
        "otherwise than an image of its own": unit == "spot",
        "choosing the group after looking at the answer: it must follow from the input, in the way "
        "in which the pairs were grouped": subject.group is not None,
        "saving the upload anew after looking at the answer, so that it falls into another class": (
            subject.input_class is not None
        ),
    }
    void_if = [words for words, applies in conditions.items() if applies]
    return [*void_if, *calibration.pipeline.fidelity.row.void_if]


def warnings_of(
    subject: ApplicableCalibration,
    alpha: float,
    *,
    trusted: float,
    typicality: float,
    notes: list[str],
    lossless: bool,
) -> list[str]:
    """Return what a careful reader must know about this answer, the gravest first.

    trusted: share of pixels in the mask. notes: earlier warnings. lossless: of the upscaler.
    """
    settings = subject.partition.pipeline.fidelity
    why_not = subject.why_not(typicality)
    warnings = [] if why_not is None else [f"{why_not}: the mask promises nothing about it."]
    warnings += notes
    warnings += _of_mask(subject, alpha, trusted)
    if settings.unit == "spot" and min(subject.size) < settings.spot:
        warnings.append(
            f"The output is smaller than a spot of {settings.spot} pixels: it is read as a part of "
            "one, so the promise is approximate."
        )
    if not lossless:
        warnings.append("The upscaler delivers lossy images; compression adds to the disagreement.")
    return warnings


def _of_mask(subject: ApplicableCalibration, alpha: float, trusted: float) -> list[str]:
    """Why a mask is all black or all white."""
    calibration = subject.partition
    if alpha < calibration.curve.min_alpha:
        return [_infeasible(subject, alpha)]
    words = ""
    if alpha >= calibration.bound:
        words = (
            f"alpha={alpha:g} is not below the largest possible loss B = {calibration.bound:g}: "
            "the promise says nothing, and all is marked as trusted that is not stranger than "
            "anything seen in calibration."
        )
    elif alpha > calibration.max_alpha:
        words = (
            f"alpha={alpha:g} is above {calibration.max_alpha:.3g}, from which on the mask does "
            "not grow: no mask trusts more than 95 % of what was calibrated."
        )
    elif trusted == 0:
        words = (
            f"No pixel is trusted: everywhere in this image the score σ lies above the threshold "
            f"of alpha={alpha:g}. A larger alpha would trust more: fix it before the next image."
        )
    return [words] if words else []


def _infeasible(subject: ApplicableCalibration, alpha: float) -> str:
    """Why nothing can be trusted at this α, and how many pairs it needs."""
    calibration = subject.partition
    promise = calibration.guarantee
    if isinstance(promise, PostHoc):
        short = calibration.shortfall(alpha)
        return f"Nothing can be trusted: {short}."
    least = f"{calibration.curve.min_alpha:.4g}"
    limit = f"B/(n+1) = {least}"
    what = "pairs" if calibration.pairs == calibration.n else "scenes"
    needs = f"{what} are needed"
    if (delta := promise.facts()["delta"]) is not None:
        limit = f"{least}, the least that can be held with probability {1 - delta:g},"
        needs = f"{what} without any error, and in practice several times as many, are needed"
    needed = (
        f"use {rounded_up(calibration.curve.min_alpha):g} or more, fixed before the next image, or "
        f"calibrate again: at least {calibration.minimal_n(alpha)} {needs}"
        if alpha * _MOST_PAIRS >= calibration.bound
        else "no number of pairs that can be had would suffice"
    )
    of = "this calibration"
    if subject.group is not None:
        of = f"the group {subject.group!r} of {of}"
    if subject.input_class is not None and subject.is_covered:
        of = f"the class {subject.input_class!r} of {of}"
    return (
        f"alpha={alpha:g} is below {limit} of {of} with n = {calibration.n} {what}, so nothing can "
        f"be trusted; {needed}."
    )


_MOST_COUNTED: Final = 1000  # pictures up to which a share is said as so many of them


def plain(subject: ApplicableCalibration, alpha: float, usual: ErrorQuantile | None) -> str:
    """State the promise about a mask of α for people who are no statisticians."""
    partition = subject.partition
    if (short := partition.shortfall(alpha)) is not None:
        return f"Nothing is trusted: {short}."
    settings = partition.pipeline.fidelity
    if settings.unit == "words":
        return _of_words(partition.guarantee, alpha)
    spots = f"spots of {settings.spot}×{settings.spot} pixels of such pictures"
    such = {"spot": spots, "picture": "such pictures"}[settings.unit]  # a further unit needs words
    likely = partition.guarantee.facts()["delta"]
    tail = "" if likely is None else f", with a probability of {1 - likely:g} over the calibration"
    if settings.row.error_unit == "label":
        most = partition.guarantee.alphas[-1] if isinstance(partition.guarantee, PostHoc) else alpha
        return f"{_share_of(such, most)} {settings.row.right}{tail}."
    free = ", though α is chosen after looking" if isinstance(partition.guarantee, PostHoc) else ""
    if usual is not None and usual.error < partition.error_bound:
        return f"{_share_of(such, usual.share)} {_right_within(usual.error, settings)}{free}{tail}."
    return f"On average over {such} {_right_within(alpha, settings)}{tail}."


def _of_words(promise: GuaranteeSettings, alpha: float) -> str:
    """The promise about the words in a mask of α."""
    likely = promise.facts()["delta"]
    tail = "" if likely is None else f", with a probability of {1 - likely:g} over the calibration"
    reads = f"as a text reader, not a person, reads them{tail}."
    match promise:
        case Probability(tolerance=most) if most == ANY:
            return f"{_share_of('such pictures', alpha)} no word called right is wrong, {reads}"
        case Probability(tolerance=most):
            return (
                f"{_share_of('such pictures', alpha)} at most {100 * most:g} % of the words called "
                f"right are wrong, {reads}"
            )
        case PostHoc(alphas=alphas):
            alpha, free = min(alpha, alphas[-1]), ", though α is chosen after looking"
        case _:
            free = ""
    return (
        f"Of the words called right at most {100 * alpha:.3g} % are wrong, on average over such "
        f"pictures{free}, {reads}"
    )


def _share_of(such: str, share: float) -> str:
    """All but this share of such pictures, such as "In 9 of 10 such pictures"."""
    whole = round(1 / share) if share > 0 else 0
    if 1 < whole <= _MOST_COUNTED and math.isclose(whole * share, 1, rel_tol=1e-9):
        return f"In {whole - 1} of {whole} {such}"
    return f"In {math.floor(1000 * (1 - share)) / 10:g} % of {such}"


def _right_within(error: float, settings: FidelitySettings) -> str:
    """That the trusted part is right within an error, in steps that people can picture."""
    error = rounded_up(error) if error > 0 else 0.0
    match settings.row.error_unit:
        case "ssim":
            return (
                f"structures around every trusted point differ by no more than {error:g}, where 0 "
                "is the same and 1 the opposite"
            )
        case "stretch":
            what, steps = "the values", f"{100 * error:.2g} % of the stretch"
        case _:
            what, steps = "the colours", f"{100 * error:.2g} of the 100 steps of lightness"
    pixels = max(1, round(2.355 * settings.blur))
    around = (
        f" around every trusted point, averaged about {pixels} pixels across,"
        if settings.row.blurs
        else (" at every trusted point")
    )
    fine = "; fine detail may still be invented" if settings.row.blurs else ""
    return f"{what}{around} are right within {steps}{fine}"


def theorem(
    subject: ApplicableCalibration,
    alpha: float,
    usual: ErrorQuantile | None,
    why_not: str | None = None,
) -> str:
    """State the theorem about a mask of α, and what it does not cover."""
    group, settings = subject.group, subject.partition.pipeline.fidelity
    of_group = [] if group is None else [f"It speaks about images of the group {group!r} only."]
    spot = f"a random spot of it, {settings.spot} pixels wide and high,"
    where = {
        "spot": f"in the part of the mask inside {spot}",
        "picture": "in the mask",
        "words": "in the mask",
    }
    sentences = [_theorem(subject, alpha, where[settings.unit])]
    if why_not is not None:
        others = "No promise. What follows holds for other uploads."
        return " ".join([others, *sentences, *of_group])
    if alpha < subject.partition.curve.min_alpha:
        usual = None
    match subject.partition.guarantee:
        case PostHoc() as promise if usual is not None and usual.error > 0:
            ratio = usual.error / min(alpha, promise.alphas[-1])
            sentences.append(
                f"It exceeds {rounded_up(ratio):g}·α for some of these α with a probability of at "
                f"most {usual.share:g} over the same draw. Masks of smaller α are empty; those of "
                "larger ones are that of the largest."
            )
        case _ if usual is not None and 0 < usual.error < subject.partition.error_bound:
            sentences.append(
                f"It exceeds {rounded_up(usual.error):g} with a probability of at most "
                f"{usual.share:g} over the same draw."
            )
    if settings.unit == "spot":
        sentences.append("In a picture of many spots the largest error of all of them is larger.")
    return " ".join([*sentences, *of_group])


def _theorem(subject: ApplicableCalibration, alpha: float, where: str) -> str:
    """What is bounded, over which draw, and by what."""
    partition = subject.partition
    settings = partition.pipeline.fidelity
    new = "this image" if partition.pairs == partition.n else "this image, of a new scene"
    # A share of words is of the whole mask.
    is_share = settings.unit == "words"
    largest = f"the {settings.clause}" if is_share else f"the largest {settings.clause} {where}"
    promise = partition.guarantee
    if isinstance(promise, Probability):
        bound = f"exceeds {promise.tolerance:g} with a probability of at most {alpha:g}"
    else:
        cut = f"{partition.error_bound:g}"
        counted = f" (where errors above {cut} count as {cut})" if clips(settings) else ""
        largest, bound = f"the expected value of {largest}{counted}", f"is at most {alpha:g}"
    if isinstance(promise, PostHoc):
        largest = largest.replace("value of", "ratio of", 1)
        choice = f"between {promise.alphas[0]:g} and {promise.alphas[-1]:g}"
        if promise.menu is not None:
            choice = f"of {', '.join(f'{alpha:g}' for alpha in promise.menu)}"
        bound = (
            f"to an α {choice}, chosen after looking at the image, its masks or anything else, is "
            "at most 1"
        )
    delta = promise.facts()["delta"]
    if delta is None:
        return (
            f"Over the draw of the {subject.scenes} and of {new}, {largest} {bound}, if the image "
            "is exchangeable with them."
        )
    return (
        f"With probability at least {1 - delta:g} over the draw of the {subject.scenes}, {largest} "
        f"of a new image {bound}, if it and they are drawn independently from one distribution."
    )
