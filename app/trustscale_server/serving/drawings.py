"""What is drawn from an answer's picture and its mask: believed and safe pictures, overlays.

`write_…` makes a file while the answer is in memory, `png_…` the same of a stored answer.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server import __version__
from trustscale_server.images.encoding.encode import Attached
from trustscale_server.images.encoding.overlay import composed, opaque_part, overlay
from trustscale_server.images.encoding.png import to_bytes
from trustscale_server.images.metadata import Metadata
from trustscale_server.pixels.lab import Pixels
from trustscale_server.proof.marked import write_marked
from trustscale_server.proof.marks import Mark, PictureKind
from trustscale_server.sampling.sigma.added_score import Added
from trustscale_server.serving.added_cells import read_cells, safe_pixels
from trustscale_server.serving.document import BelievedPicture, Result
from trustscale_server.serving.provenance import mark_of
from trustscale_server.serving.stored_answer import read_image, read_mask


@dataclass(frozen=True, slots=True)
class MaskedPicture:
    """A stored picture under a mask, perhaps that of another α.

    pixels: uint8 [H, W, 3 or 4]. attached: what drawings keep of both files: the marks of the
    picture's, and the text of the mask's. trusted: bool [H, W].
    """

    pixels: NDArray[np.uint8]
    trusted: NDArray[np.bool_]
    attached: Attached

    @classmethod
    def from_files(cls, image: bytes, mask: bytes) -> Self:
        """Read a stored picture and the file of a mask."""
        pixels, marks = read_image(image)
        trusted, text = read_mask(mask)
        return cls(pixels, trusted, Attached(text, marks))

    def mark(self, result: Result, kind: PictureKind) -> Mark:
        """Return the mark of a drawing of it, by the text of the mask's file."""
        opaque, text = opaque_part(self.pixels), self.attached.text
        judged = self.trusted.size if opaque is None else int(np.count_nonzero(opaque))
        share = int(np.count_nonzero(self.trusted)) / max(1, judged)
        alpha, version = float(text["trustscale:alpha"]), text["trustscale:fingerprint"]
        return mark_of(result, version, kind, alpha, share)


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
    stored = MaskedPicture.from_files(image, mask)
    return to_bytes(write_believed)(
        stored.pixels,
        stored.trusted,
        rest,
        result.believed,
        stored.attached,
        stored.mark(result, "believed"),
    )


def write_safe(
    out: IO[bytes], source: Pixels, picture: Pixels, added: Added, xmp: Metadata, mark: Mark
) -> None:
    """Write `safe.png`, without a promise in its mark."""
    drawn = safe_pixels(source, picture, added)
    text = {
        "Software": f"trustscale {__version__}",
        "trustscale:fingerprint": mark.version,
        "trustscale:safe": (
            "The model's detail in proportion to how much of it is probably real: on average "
            "nearer to the original than the model's picture. Promises are about that picture, not "
            "about this one."
        ),
    }
    plain = replace(mark, alpha=None, share=None, promise="")
    write_marked(out, drawn, "png", plain, attached=Attached(text, xmp))


def png_safe_of(result: Result, image: bytes, mask: bytes, rest: bytes, cells: bytes) -> bytes:
    """Make `safe.png` of a stored answer."""
    pixels, marks = read_image(image)
    with Image.open(io.BytesIO(rest)) as upload:
        source = np.asarray(upload.convert("RGB"))
    _, text = read_mask(mask)
    mark = mark_of(result, text["trustscale:fingerprint"], "safe")
    return to_bytes(write_safe)(source, pixels, read_cells(cells), marks, mark)


def png_overlay(result: Result, image: bytes, mask: bytes) -> bytes:
    """Make the overlay of a stored picture and its mask file, with the mask's text."""
    stored = MaskedPicture.from_files(image, mask)
    drawn = hatched(stored.pixels, stored.trusted)
    mark = stored.mark(result, "overlay")
    return to_bytes(write_marked)(drawn, "png", mark, attached=stored.attached)


def hatched(pixels: NDArray[np.uint8], trusted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a picture, uint8 [H, W, 3 or 4], hatched where it is opaque and not trusted."""
    drawn, opaque = pixels.copy(), opaque_part(pixels)
    judged = trusted if opaque is None else trusted | ~opaque
    drawn[..., :3] = overlay(pixels[..., :3], judged)
    return drawn
