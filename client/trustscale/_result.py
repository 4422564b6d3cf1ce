"""An upscaled image with its trust mask."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale._overlay import hatched
from trustscale._session import Problem

_NEVER = 65535  # trust.png: the value of pixels that are trusted at no α
_STEPS = 65534


class Guarantee(TypedDict, total=False):
    """What is promised about the mask: `plain` for people, `theorem` for statisticians."""

    kind: str
    robust: float
    delta: float | None
    tolerance: float | None
    level: float | None
    menu: list[float] | None
    between: list[float] | None
    metric: str
    error: str
    error_unit: str | None
    about: str
    alpha: float
    bound: float
    loss_clipped_at: float | None
    n: int
    pairs: int
    calibrated_on: str
    plain: str
    theorem: str
    lab_psnr_lower_bound_db: float | None
    promised: bool
    unit: str
    spot: int
    max_alpha: float
    condition: str | None
    void_if: list[str]


class Review(TypedDict):
    """Whether somebody must look at the whole picture before it goes out."""

    needs_review: bool
    p_value: float
    delta: float
    tolerance: float
    share: float
    n: int
    bad: str
    promise: str
    reason: str | None


class Word(TypedDict):
    """A word that a text reader reads: the corners of its box, and whether it can be believed."""

    box: list[list[float]]
    text: str
    trusted: bool
    trust_level: float | None


class Added(TypedDict):
    """What a model added: shares of the picture and of the added detail, and the promise."""

    plain: str
    promise: str | None
    unchanged: float
    held: float | None
    doubtful: float | None
    rho: float
    certainty: float


class LeftOut(TypedDict):
    """A face, or text that is not called right: the corners of its box, and why it is left out."""

    kind: Literal["face", "text"]
    box: list[list[float]]
    why: str


class Result:
    """An answer: `document` is its JSON, `files` its files by name."""

    def __init__(self, document: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.document = document
        self.files = files

    @classmethod
    def from_zip(cls, data: bytes) -> Result:
        """Return the result in an answer of the media type application/zip."""
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        return cls(json.loads(files.pop("result.json")), files)

    def __repr__(self) -> str:
        width, height = self.document["width"], self.document["height"]
        share = self.document.get("trusted_fraction")
        trusted = "no mask"
        if share is not None:
            about = self.guarantee.get("about", "for colour")  # an older service does not say
            trusted = f"{share:.1%} can be relied on {about} at α = {self.alpha:g}"
        return f"<Result {self.id}: {width}×{height}, {trusted}>"

    @property
    def id(self) -> str:
        """The id under which the service keeps it for a while."""
        return str(self.document["id"])

    @property
    def alpha(self) -> float:
        """The largest expected error tolerated inside the mask."""
        return float(self.document["alpha"])

    @property
    def guarantee(self) -> Guarantee:
        """The promise about the mask, and what would void it."""
        guarantee: Guarantee = self.document["guarantee"]
        return guarantee

    @property
    def review(self) -> Review | None:
        """Whether the picture may go out without a look; None if the calibration cannot say."""
        review: Review | None = self.document["review"]
        return review

    @property
    def warnings(self) -> list[str]:
        """What a careful reader must know about this answer."""
        return list(self.document["warnings"])

    @property
    def left_out(self) -> list[LeftOut]:
        """Faces and text that are in no mask, since no promise about colours is about them."""
        left_out: list[LeftOut] = self.document.get("left_out", [])
        return left_out

    @property
    def words(self) -> list[Word]:
        """What a text reader reads in the image; needs `words=True`.

        Raises Problem: it was asked for without.
        """
        words: list[Word] | None = self.document.get("words")
        if words is None:
            raise Problem(
                {"detail": f"{self.id} has no words: it was asked for without words=true."}
            )
        return words

    @property
    def trusted_fraction(self) -> float:
        """The trusted share of the wholly opaque pixels."""
        return float(self.document["trusted_fraction"])

    @cached_property
    def image(self) -> Image.Image:
        """The upscaled image; of 16-bit colours the upper 8 bits, `files` has all."""
        return self._picture("image")

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """Where the image is trusted at `alpha`, bool [H, W]."""
        return np.asarray(self._picture("mask"), np.bool_)

    @cached_property
    def trust(self) -> NDArray[np.float32]:
        """α(p): the smallest α at which a pixel is trusted, float32 [H, W]; inf: none.

        Rounded up to a 65,534th of B, so `trust <= alpha` is inside the mask of that α. Choosing α
        after looking at it voids the guarantee.
        """
        code = np.asarray(self._picture("trust")).astype(np.uint16)
        endless = np.float32(np.inf)
        level = (code * (self.guarantee["bound"] / _STEPS)).astype(np.float32)
        # The conversion may round down, and so may that of α in a comparison.
        return np.where(code == _NEVER, endless, np.nextafter(level, endless))

    @cached_property
    def believed(self) -> Image.Image:
        """The image inside the mask, something plain outside; needs `believed=True`."""
        return self._picture("believed")

    @property
    def detail(self) -> Added | None:
        """What the model added, and how much of it is real; None if nothing looked."""
        added: Added | None = self.document.get("added")
        return added

    @cached_property
    def added(self) -> NDArray[np.uint8]:
        """Where detail is doubtful (0), unchanged (128) or holds up (255); needs `safe=True`."""
        return np.asarray(self._picture("added"))

    @cached_property
    def safe(self) -> Image.Image:
        """The image with its detail in proportion to how real it is; needs `safe=True`."""
        return self._picture("safe")

    @cached_property
    def card(self) -> Image.Image:
        """The image with a caption that says what can be relied on; needs `card=True`."""
        return self._picture("card")

    @cached_property
    def overlay(self) -> Image.Image:
        """The image in its own colours, hatched where it is not trusted, as the service's."""
        return hatched(self.image, self.mask)

    def save(self, folder: str | Path) -> None:
        """Write the files, overlay.png and result.json into a folder."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (path / Path(name).name).write_bytes(data)  # a server's name may lead elsewhere
        if any(name.partition(".")[0] == "mask" for name in self.files):
            self.overlay.save(path / "overlay.png")
        text = json.dumps(self.document, indent=2, ensure_ascii=False)
        (path / "result.json").write_text(text + "\n", "utf-8")

    def _picture(self, kind: str) -> Image.Image:
        name = next((name for name in self.files if name.partition(".")[0] == kind), None)
        if name is None:
            options = {"believed": "believed", "card": "card", "safe": "safe", "added": "safe"}
            why = f"without {options[kind]}=true" if kind in options else "with mask=none"
            raise Problem({"detail": f"{self.id} has no {kind}: it was asked for {why}."})
        picture = Image.open(io.BytesIO(self.files[name]))
        picture.load()
        return picture
