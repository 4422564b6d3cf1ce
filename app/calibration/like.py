"""What a folder of uploads looks like, and inputs that are made to look the same."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from trustscale_server.calibration.layout import IMAGE_SUFFIXES
from trustscale_server.errors import BadInput, BadPairs
from trustscale_server.images.compression import class_in_words
from trustscale_server.images.decode import PAIR_LIMITS, decode
from trustscale_server.images.degrade import PARTS, USUAL, Component, Mixture
from trustscale_server.images.facts import UPLOAD, InputFeatures, classify, look_at
from trustscale_server.images.sandbox import in_decoder

_MOST_FILES: Final = 2000  # of a folder that are looked at
_SHARE: Final = 0.01  # of the uploads, below which a class is not worth its calls


class Upload(NamedTuple):
    """One upload: its size (width, height) and facts."""

    size: tuple[int, int]
    facts: InputFeatures

    @property
    def input_class(self) -> str:
        """Its class."""
        return classify(UPLOAD, self.facts)


class InputProfile(NamedTuple):
    """The uploads of a folder, and an item for each file that is no usable image."""

    uploads: Sequence[Upload]
    unread: Sequence[dict[str, str]]

    @property
    def classes(self) -> Counter[str]:
        """How many uploads are of each class."""
        return Counter(upload.input_class for upload in self.uploads)

    def mixture(self) -> Mixture:
        """Inputs in the classes that occur, at their qualities; BadPairs if none can be made."""
        members = defaultdict(list)
        for upload in self.uploads:
            members[upload.input_class].append(upload.facts.compression)
        parts: list[Component] = []
        for name, found in members.items():
            look, _, saved = name.rpartition("/")
            if len(found) < _SHARE * len(self.uploads) or saved == "other":
                continue
            known = [quality for _, quality in found if quality is not None]
            files: dict[str, Any] = {found[0].codec: (min(known), max(known))} if known else {}
            if saved == "palette":
                files = {"palette": True}
            ways = next((PARTS[one] for one in PARTS if one in {look, saved}), PARTS["sharp"])
            parts += Mixture.of(ways, [files]).mixture
        if not parts:
            raise BadPairs("No upload is of a kind that can be made from a photograph.", items=[])
        return Mixture(mixture=tuple(parts))

    def report(self) -> list[str]:
        """Lines about classes, sizes, and what is not covered."""
        total = len(self.uploads)
        widths, heights = zip(*(upload.size for upload in self.uploads), strict=True)
        smallest, largest = f"{min(widths)}×{min(heights)}", f"{max(widths)}×{max(heights)}"
        size = (
            f"{total} uploads of {smallest} to {largest} pixels; where photographs are smaller "
            "than what these become, the promise is about a window of their size"
        )
        lines = [size]
        made = self.mixture().variants()
        for name, count in self.classes.most_common():
            covered = "" if name in made else "; not covered"
            if name == "lossless/fine" and "lossless" in made:  # it has no way of its own
                covered = "; covered if enough of the photographs are as detailed"
            lines.append(f"  {count / total:4.0%}  {name}: {class_in_words(name)}{covered}")
        never = [name for name in USUAL.variants() if name not in made]
        if never:
            lines.append(f"  not covered, since no upload is so: {', '.join(never)}")
        return lines


def look_like(folder: Path) -> InputProfile:
    """Look at the images of a folder and its subfolders.

    Raises:
        BadPairs: it is no folder, or holds no image that can be read.
    """
    if not folder.is_dir():
        raise BadPairs(f"{folder} is not a folder.", items=[])
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    uploads: list[Upload] = []
    unread: list[dict[str, str]] = []
    for path in paths[:: -(-len(paths) // _MOST_FILES) or 1]:
        try:
            image = in_decoder(decode, path.read_bytes(), PAIR_LIMITS)
        except (BadInput, OSError) as error:
            unread.append({"name": path.name, "reason": str(error)})
            continue
        height, width, _ = image.rgb.shape
        uploads.append(Upload((width, height), look_at(image.rgb, image.compression)))
    if not uploads:
        raise BadPairs(f"{folder} holds no PNG, JPEG or WebP image that can be read.", items=unread)
    return InputProfile(uploads, unread)
