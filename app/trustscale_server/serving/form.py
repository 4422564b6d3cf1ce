"""The form of one answer's picture: which it is, and whether it can hold the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from trustscale_server.images.encode import DEFAULT_QUALITY, FORMS, FormName
from trustscale_server.platform.errors import BadRequest


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
    """Return the form that a request names. Raises BadRequest: it has no quality."""
    form = ChosenForm(cast("FormName", name), quality)
    if quality is not None and FORMS[form.name].lossless:
        raise BadRequest(f"format={name} is lossless: it has no quality.")
    return form
