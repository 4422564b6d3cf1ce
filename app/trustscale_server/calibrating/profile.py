"""What a folder of uploads looks like, and inputs that are made to look the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from trustscale_server.calibrating.intake.layout import IMAGE_SUFFIXES
from trustscale_server.images.decoding.decode import decode
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.images.sandbox.client import in_decoder
from trustscale_server.kinds.classes import class_in_words, ways_of_class
from trustscale_server.kinds.degradation import Component, Mixture
from trustscale_server.kinds.features import UPLOAD, InputFeatures, classify, look_at
from trustscale_server.kinds.typical import TYPICAL_UPLOADS
from trustscale_server.platform.errors import BadInput, BadPairs

_MAX_FILES: Final = 2000  # of a folder that are looked at


class ProfiledUpload(NamedTuple):
    """One upload: its size (width, height) and features."""

    size: tuple[int, int]
    features: InputFeatures

    @property
    def input_class(self) -> str:
        """The class of the upload."""
        return classify(UPLOAD, self.features)


class InputProfile(NamedTuple):
    """The uploads of a folder, and an item for each file that is no usable image."""

    uploads: Sequence[ProfiledUpload]
    unread: Sequence[dict[str, str]]

    @property
    def classes(self) -> Counter[str]:
        """How many uploads are of each class."""
        return Counter(upload.input_class for upload in self.uploads)

    def mixture(self) -> Mixture:
        """Return the typical ways of making uploads of the classes that occur, as often as these.

        JPEG files have the qualities that occur. BadPairs: no upload can be made.
        """
        files = [upload.features.compression for upload in self.uploads]
        qualities = [
            file.quality for file in files if file.codec == "jpeg" and file.quality is not None
        ]
        typical = TYPICAL_UPLOADS.variants()
        components, shares = list[Component](), dict[str, int]()
        for name, count in self.classes.items():
            percent = 100 * count / len(self.uploads)
            if percent < 1:
                continue  # not worth its calls
            for way in ways_of_class(name):
                components += [_at(component, qualities) for component in typical[way].mixture]
                shares[way] = max(1, round(percent))
        if not components:
            raise BadPairs("No upload is of a kind that can be made from a photograph.", items=[])
        return Mixture(mixture=tuple(components), shares=shares)

    def report(self) -> list[str]:
        """Describe classes and sizes, and what is not covered, in lines."""
        total = len(self.uploads)
        widths, heights = zip(*(upload.size for upload in self.uploads), strict=True)
        smallest, largest = f"{min(widths)}×{min(heights)}", f"{max(widths)}×{max(heights)}"
        size = (
            f"{total} uploads of {smallest} to {largest} pixels; where photographs are smaller "
            "than what these become, the promise is about a window of their size"
        )
        lines = [size]
        ways = self.mixture().variants()
        for name, count in self.classes.most_common():
            covered = "" if set(ways_of_class(name)) & ways.keys() else "; not covered"
            lines.append(f"  {count / total:4.0%}  {name}: {class_in_words(name)}{covered}")
        never = [way for way in TYPICAL_UPLOADS.variants() if way not in ways]
        if never:
            lines.append(f"  not covered, since no upload is so: {', '.join(never)}")
        return lines


def _at(component: Component, qualities: Sequence[int]) -> Component:
    """The component with JPEG files of these qualities alone, if it can have one."""
    if not isinstance(component.jpeg, tuple):
        return component
    low, high = component.jpeg
    fitting = [quality for quality in qualities if low <= quality <= high]
    if not fitting:
        return component
    return component.model_copy(update={"jpeg": (min(fitting), max(fitting))})


def look_like(folder: Path) -> InputProfile:
    """Look at the images of a folder and its subfolders.

    Raises:
        BadPairs: it is no folder, or holds no image that can be read.
    """
    if not folder.is_dir():
        raise BadPairs(f"{folder} is not a folder.", items=[])
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    uploads: list[ProfiledUpload] = []
    unread: list[dict[str, str]] = []
    step = max(1, math.ceil(len(paths) / _MAX_FILES))
    for path in paths[::step]:
        try:
            image = in_decoder(decode, path.read_bytes(), PAIR_LIMITS)
        except (BadInput, OSError) as error:
            unread.append({"name": path.name, "reason": str(error)})
            continue
        height, width, _ = image.rgb.shape
        uploads.append(ProfiledUpload((width, height), look_at(image.rgb, image.compression)))
    if not uploads:
        raise BadPairs(f"{folder} holds no PNG, JPEG or WebP image that can be read.", items=unread)
    return InputProfile(uploads, unread)
