"""The files of an answer, with their provenance: as they are stored, and as they are sent."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import IO, Annotated, Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from pydantic import Field, TypeAdapter

from trustscale_server import __version__
from trustscale_server.calibration.calibration import Calibration
from trustscale_server.calibration.guarantees import GuaranteeSettings
from trustscale_server.images.encode import BEST_QUALITY, DEFAULT_QUALITY, FORMS, Attached, FormName
from trustscale_server.images.marked import write_marked
from trustscale_server.images.marks import Mark, PictureKind
from trustscale_server.images.metadata import Metadata, marks_of
from trustscale_server.images.overlay import composed, opaque_part, overlay
from trustscale_server.images.png import to_bytes
from trustscale_server.pixels.lab import Pixels, to_8_bit
from trustscale_server.platform.errors import BadAlpha, BadRequest, NotFound
from trustscale_server.sampling.sigma.added_score import Added
from trustscale_server.serving.added import read_cells, safe_pixels
from trustscale_server.serving.document import BelievedPicture, Picture, Result, Unmasked
from trustscale_server.serving.provenance import mark_of

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

    def raise_if_impossible(
        self, longest: int, *, transparent: bool, is_16_bit: bool = False
    ) -> None:
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
    promise: GuaranteeSettings,
    alpha: float,
    threshold: float,
    group: str | None = None,
    input_class: str | None = None,
) -> dict[str, str]:
    """Return text chunks that say where a file comes from; threshold: t_α of the mask."""
    chunks = {"trustscale:group": group} if group is not None else {}
    if input_class is not None:
        chunks["trustscale:input_class"] = input_class
    if (delta := promise.summary().delta) is not None:
        chunks["trustscale:delta"] = repr(delta)
    return {
        "Software": f"trustscale {__version__}",
        "trustscale:calibration": calibration.id,
        "trustscale:alpha": repr(alpha),
        "trustscale:threshold": repr(threshold),
        "trustscale:guarantee": promise.kind,
        "trustscale:fingerprint": calibration.pipeline.fingerprint,
        **chunks,
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
    pixels: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    rest: bytes,
    believed: BelievedPicture,
    attached: Attached,
    mark: Mark,
) -> None:
    """Write `believed.png`: a picture, with its plain enlargement outside of the mask."""
    text = {**attached.text, "trustscale:believed": believed.statement}
    drawn = faded(pixels, mask, rest, mark.scale)
    write_marked(out, drawn, "png", mark, attached=attached._replace(text=text))


def faded(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_], rest: bytes, scale: float
) -> NDArray[np.uint8]:
    """Return a picture, uint8 [H, W, 3 or 4], that fades into its plain layer outside of the mask.

    rest: the file of the upload. scale: how many times as wide as it the picture is.
    """
    fade = max(1, round(2 * scale))  # two pixels of the upload
    with Image.open(io.BytesIO(rest)) as upload:
        return composed(pixels, mask, upload.convert("RGB"), fade)


def png_believed_of(result: Result, image: bytes, mask: bytes, rest: bytes) -> bytes:
    """Make `believed.png` of a stored answer under a mask file, with the mask's text."""
    trusted, text = read_mask(mask)
    pixels, xmp = _read(image)
    mark = mark_under(result, text, "believed", trusted, opaque_part(pixels))
    attached = Attached(text, xmp)
    return to_bytes(write_believed)(pixels, trusted, rest, result.believed, attached, mark)


_SAFE_STATEMENT: Final = (
    "The model's detail in proportion to how much of it is probably real: on average nearer to the "
    "original than the model's picture. Promises are about that picture, not about this one."
)


def write_safe(
    out: IO[bytes], source: Pixels, picture: Pixels, added: Added, xmp: Metadata, mark: Mark
) -> None:
    """Write `safe.png`, without a promise in its mark."""
    drawn = safe_pixels(source, picture, added)
    text = {
        "Software": f"trustscale {__version__}",
        "trustscale:fingerprint": mark.version,
        "trustscale:safe": _SAFE_STATEMENT,
    }
    plain = replace(mark, alpha=None, share=None, promise="")
    write_marked(out, drawn, "png", plain, attached=Attached(text, xmp))


def png_safe_of(result: Result, image: bytes, mask: bytes, rest: bytes, cells: bytes) -> bytes:
    """Make `safe.png` of a stored answer."""
    pixels, xmp = _read(image)
    with Image.open(io.BytesIO(rest)) as upload:
        source = np.asarray(upload.convert("RGB"))
    _, text = read_mask(mask)
    mark = mark_of(result, text["trustscale:fingerprint"], "safe")
    return to_bytes(write_safe)(source, pixels, read_cells(cells), xmp, mark)


def png_overlay(result: Result, image: bytes, mask: bytes) -> bytes:
    """Make the overlay of a stored picture and its mask file, with the mask's text."""
    trusted, text = read_mask(mask)
    pixels, xmp = _read(image)
    mark = mark_under(result, text, "overlay", trusted, opaque_part(pixels))
    return to_bytes(write_marked)(
        hatched(pixels, trusted), "png", mark, attached=Attached(text, xmp)
    )


def hatched(pixels: NDArray[np.uint8], trusted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a picture, uint8 [H, W, 3 or 4], hatched where it is opaque and not trusted."""
    drawn, opaque = pixels.copy(), opaque_part(pixels)
    judged = trusted if opaque is None else trusted | ~opaque
    drawn[..., :3] = overlay(pixels[..., :3], judged)
    return drawn


def mark_under(
    result: Result,
    text: Mapping[str, str],
    kind: PictureKind,
    trusted: NDArray[np.bool_],
    opaque: NDArray[np.bool_] | None,
) -> Mark:
    """Return the mark of a drawing under a mask, by the text of the mask's file."""
    judged = trusted.size if opaque is None else int(np.count_nonzero(opaque))
    share = int(np.count_nonzero(trusted)) / max(1, judged)
    alpha, version = float(text["trustscale:alpha"]), text["trustscale:fingerprint"]
    return mark_of(result, version, kind, alpha, share)


def _read(image: bytes) -> tuple[NDArray[np.uint8], Metadata]:
    """The pixels and the marks of a stored picture."""
    with Image.open(io.BytesIO(image)) as picture:
        return pixels_of(picture), marks_of(picture)


def pixels_of(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a stored picture, uint8 [H, W, 3], or 4 where it has transparent pixels."""
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.uint16)
        return np.repeat(to_8_bit(levels)[..., np.newaxis], 3, axis=2)
    return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))
