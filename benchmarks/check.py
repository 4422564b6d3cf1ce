"""How often `trustscale check` accuses faithful enlargements, and which tampering it finds.

`python -m benchmarks.check PHOTOS [EVERY [MOST]]`: the first MOST photographs of 512 pixels in a
folder are reduced by 4 and saved in one of five forms, in turn. Each is enlarged by Pillow and by
both shipped models. Every EVERY-th is tampered with afterwards: a patch of the next photograph, a
patch of the surroundings over something (as a clone stamp removes it), one of five letters of a
plate that was in the photograph, a face (of `faces.csv`) by one of another photograph; and compared
with the next photograph. What was found counts if its box meets the place, or if the two pictures
are said not to belong together.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.table import print_table
from trustscale_server.images.check.check import check_pictures
from trustscale_server.images.check.document import Check
from trustscale_server.upscalers.embedded.onnx_model import OnnxModel
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]
Enlarge = Callable[[Pixels], Pixels]

SCALE, SIDE = 4, 512
FORMS: dict[str, dict[str, Any]] = {
    "PNG": {"format": "PNG"},
    "JPEG 50": {"format": "JPEG", "quality": 50},
    "JPEG 75": {"format": "JPEG", "quality": 75},
    "JPEG 95": {"format": "JPEG", "quality": 95},
    "WebP 75": {"format": "WEBP", "quality": 75},
}
SIZES = (16, 32, 64, 128)
_WORDS = (("MILAN", "MIRAN"), ("47083", "47033"), ("BREST", "BREAT"), ("90251", "98251"))


def small_of(truth: Pixels, form: str) -> Pixels:
    """A photograph reduced and saved."""
    size = SIDE // SCALE, SIDE // SCALE
    reduced = Image.fromarray(truth).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    reduced.save(out, **FORMS[form])
    return np.asarray(Image.open(out).convert("RGB"))


def by_pillow(resample: Image.Resampling) -> Enlarge:
    return lambda small: np.asarray(Image.fromarray(small).resize((SIDE, SIDE), resample))


def enlargers() -> dict[str, Enlarge]:
    models = {name: OnnxModel(SHIPPED_MODELS[name].read(), name=name) for name in SHIPPED_MODELS}
    return {
        "bicubic": by_pillow(Image.Resampling.BICUBIC),
        "Lanczos": by_pillow(Image.Resampling.LANCZOS),
        **models,
    }


def with_patch(large: Pixels, source: Pixels, at: Box, origin: tuple[int, int]) -> Pixels:
    """The box filled with the same size of another picture, from (x, y)."""
    left, top, right, bottom = at
    x, y = origin
    made = large.copy()
    made[top:bottom, left:right] = source[y : y + bottom - top, x : x + right - left]
    return made


def with_plate(picture: Pixels, at: tuple[int, int], height: int, word: str) -> tuple[Pixels, Box]:
    """A white plate with a word whose letters are so high."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(height * 1.35)
    left, top, right, bottom = draw.textbbox(at, word, font)
    box = int(left) - 3, int(top) - 3, int(right) + 4, int(bottom) + 4
    draw.rectangle(box, (245, 245, 240))
    draw.text(at, word, (20, 20, 30), font)
    return np.asarray(image), box


def faces() -> dict[str, list[Box]]:
    """The clear faces of the photographs, by file."""
    found = defaultdict(list)
    with (Path(__file__).parent / "faces.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == "unclear":
                continue
            box = [round(float(row[side])) for side in ("left", "top", "right", "bottom")]
            left, top, right, bottom = np.clip(box, 0, SIDE).tolist()
            found[row["file"].rpartition("/")[2]].append((left, top, right, bottom))
    return found


def is_found(told: Check, box: Box) -> bool:
    """Whether a contradiction meets the box, or they are said not to belong together."""
    left, top, right, bottom = box
    return not told.belong_together or any(
        one.box[0] < right and left < one.box[2] and one.box[1] < bottom and top < one.box[3]
        for one in told.contradictions
    )


def tampered(
    truth: Pixels, form: str, enlarge: Enlarge, other: Pixels, rng: np.random.Generator
) -> Iterator[tuple[str, int, bool]]:
    """Kind, size and whether it was found."""
    small = small_of(truth, form)
    large = enlarge(small)
    for size in SIZES:
        x, y, x2, y2 = (int(place) for place in rng.integers(0, SIDE - size, 4))
        box = (x, y, x + size, y + size)
        made = with_patch(large, other, box, (x2, y2))
        yield "patch of another picture", size, is_found(check_pictures(small, made).check, box)
        beside = x + size if x + 2 * size <= SIDE else max(0, x - size)
        made = with_patch(large, large, box, (beside, y))
        yield "removed by a clone stamp", size, is_found(check_pictures(small, made).check, box)
        before, after = _WORDS[int(rng.integers(len(_WORDS)))]
        if size < 128:
            at = (int(rng.integers(4, 60)), int(rng.integers(4, SIDE - 2 * size)))
            lettered = small_of(with_plate(truth, at, size, before)[0], form)
            made, box = with_plate(enlarge(lettered), at, size, after)
            yield "one letter of five", size, is_found(check_pictures(lettered, made).check, box)


def swapped(
    small: Pixels, large: Pixels, places: list[Box], other: tuple[Pixels, Box]
) -> Iterator[tuple[str, int, bool]]:
    picture, (left, top, right, bottom) = other
    for box in places:
        size = box[2] - box[0], box[3] - box[1]
        if min(size) >= 16:
            face = Image.fromarray(picture[top:bottom, left:right]).resize(size)
            made = with_patch(large, np.asarray(face), box, (0, 0))
            near = max(each for each in SIZES if each <= max(16, min(size)))
            yield "face of somebody else", near, is_found(check_pictures(small, made).check, box)


def main(photos: Path, every: int = 4, most: int = 100) -> None:
    files = sorted(photos.glob("*.webp"))[:most]
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    rng = np.random.default_rng(52)
    by_name = enlargers()
    known = faces()
    some = [(pictures[n], known[file.name][0]) for n, file in enumerate(files) if known[file.name]]
    accused: dict[tuple[str, str], list[bool]] = defaultdict(list)
    hits: dict[tuple[str, str, int], list[bool]] = defaultdict(list)
    strangers = []
    for number, truth in enumerate(pictures):
        form = list(FORMS)[number % len(FORMS)]
        small = small_of(truth, form)
        other = pictures[(number + 1) % len(pictures)]
        for name, enlarge in by_name.items():
            large = enlarge(small)
            accused[name, form].append(not check_pictures(small, large).check.holds)
            if name in SHIPPED_MODELS and some and known[files[number].name]:
                face = next((one for one in some if one[0] is not truth), some[0])
                for kind, size, found in swapped(small, large, known[files[number].name], face):
                    hits[name, kind, size].append(found)
        if number % every == 0:
            strangers.append(check_pictures(small, other).check.belong_together)
            for name in SHIPPED_MODELS:
                for kind, size, found in tampered(truth, form, by_name[name], other, rng):
                    hits[name, kind, size].append(found)
        print(f"{number + 1} of {len(pictures)}", file=sys.stderr)
    print(f"other photographs that were said to belong together: {share(strangers)}")
    print("\nfaithful enlargements with a contradiction\n")
    print_table(
        ["", *FORMS, "all"],
        [
            [
                name,
                *(share(accused[name, form]) for form in FORMS),
                share([one for form in FORMS for one in accused[name, form]]),
            ]
            for name in by_name
        ],
    )
    print("\ntampering that was found\n")
    kinds = sorted({(name, kind) for name, kind, _ in hits})
    print_table(
        ["model", "kind", *map(str, SIZES)],
        [[name, kind, *(share(hits[name, kind, size]) for size in SIZES)] for name, kind in kinds],
    )


def share(cases: list[bool]) -> str:
    """How many of them, as “3 of 40”."""
    return f"{sum(cases)} of {len(cases)}" if cases else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
