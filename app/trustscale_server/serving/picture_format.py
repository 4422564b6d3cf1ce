"""The format of one answer's picture: which it is, and whether it can hold the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from trustscale_server.images.encoding.encode import DEFAULT_QUALITY, PICTURE_FORMATS, FormatName
from trustscale_server.platform.errors import BadRequest


@dataclass(frozen=True, slots=True)
class ChosenFormat:
    """The format of one answer's picture."""

    name: FormatName
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
        return PICTURE_FORMATS[self.name].bytes_per_pixel(self.quality or DEFAULT_QUALITY)

    @property
    def is_lossless(self) -> bool:
        """Whether the file holds exactly the pixels that the mask describes."""
        return PICTURE_FORMATS[self.name].is_lossless(self.quality)

    def raise_if_impossible(
        self, longest: int, *, transparent: bool, is_16_bit: bool = False
    ) -> None:
        """Raise BadRequest if the format cannot hold a picture with this longest side."""
        limits = PICTURE_FORMATS[self.name]
        if longest > limits.most:
            raise BadRequest(f"format={self.name} holds at most {limits.most:,} pixels a side.")
        if is_16_bit and not limits.holds_16_bit:
            raise BadRequest(
                f"format={self.name} holds 8 bits, and stretch makes 16: choose png or a tiff."
            )
        if transparent and not limits.alpha:
            raise BadRequest(
                f"The image has transparent pixels, which format={self.name} cannot hold: choose "
                "another format, or send background=white."
            )

    def warnings(self) -> list[str]:
        """Return the warning of a lossy format, if it is one."""
        if self.is_lossless:
            return []
        warning = (
            f"The picture was compressed as {self.name} after the mask was made: the promise "
            "speaks about the picture before that (format=png or tiff)."
        )
        return [warning]


def chosen_format(name: str, quality: int | None) -> ChosenFormat:
    """Return the format that a request names. Raises BadRequest: it has no quality."""
    picture_format = ChosenFormat(cast("FormatName", name), quality)
    if quality is not None and PICTURE_FORMATS[picture_format.name].lossless:
        raise BadRequest(f"format={name} is lossless: it has no quality.")
    return picture_format
