"""A check as one HTML file without scripts: the sentences, the places, and both pictures."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.pixels.placement import Placement
from trustscale_server.pixels.resize import size_within
from trustscale_server.proof.check.check import Checked
from trustscale_server.proof.check.document import Check

POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The Content-Security-Policy of a report."""

_MAX_SIDE: Final = 1200  # pixels of a picture

_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; display: block; }
.large { position: relative; width: fit-content; }
.large i { position: absolute; border: 2px solid #e5006d; outline: 1px solid #fff; }
.large i.thing { border: 1px dashed #fff; outline: 1px dashed #222; }
.places { display: flex; flex-wrap: wrap; gap: 1rem; } .pair { display: flex; gap: 4px; }
.pair img { width: 10rem; } .places figure { max-width: 21rem; }
figcaption { font-size: .875rem; }
"""


def html_report(small: NDArray[np.uint8], large: NDArray[np.uint8], checked: Checked) -> str:
    """Return a report of a check of these pictures."""
    check, placement = checked
    ours, theirs = Image.fromarray(small), Image.fromarray(large)
    frames = "".join(
        _frame(contradiction.box, theirs.size) for contradiction in check.contradictions
    )
    frames += "".join(
        _frame(thing.box, theirs.size, "thing") for thing in check.things if thing.differs
    )
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>Checked against its source</title><style>{_STYLE}</style></head><body>",
            "<h1>Checked against its source</h1>",
            *(f"<p>{escape(sentence)}</p>" for sentence in check.sentences),
            _closeness(check),
            f'<figure class="large">{_image(theirs, "The large picture")}{frames}</figure>',
            _places(ours, theirs, check, placement),
            _things(check),
            _added(check),
            f"<figure>{_image(ours, 'The small picture')}",
            f"<figcaption>The small picture, {ours.width} × {ours.height} pixels.</figcaption>",
            "</figure></body></html>",
        ]
    )


def _frame(box: list[int], size: tuple[int, int], kind: str = "place") -> str:
    left, top, right, bottom = (100 * side / size[k % 2] for k, side in enumerate(box))
    return (
        f'<i class="{kind}" style="left:{left:.3f}%;top:{top:.3f}%;'
        f'width:{right - left:.3f}%;height:{bottom - top:.3f}%"></i>'
    )


def _closeness(check: Check) -> str:
    if check.found is None or check.consistency_db is None:
        return ""
    across, down = check.found.scale
    return (
        f"<p>Reduced to the size of the small picture ({check.found.reduction}), the large one "
        f"comes within {check.consistency_db:.1f} dB of it. It is {across:.2f} × {down:.2f} times "
        "as large.</p>"
    )


def _places(
    small: Image.Image, large: Image.Image, check: Check, placement: Placement | None
) -> str:
    if placement is None or not check.contradictions:
        return ""
    figures = []
    for contradiction in check.contradictions[:12]:
        before, after = _cuts(small, large, contradiction.box, placement)
        pair = _image(before, "In the small picture") + _image(after, "In the large picture")
        figures.append(
            f'<figure><div class="pair">{pair}</div>'
            f"<figcaption>{escape(contradiction.why)}</figcaption></figure>"
        )
    head = "<h2>Where it contradicts</h2><p>The small picture left, the large one right.</p>"
    return f'{head}<div class="places">{"".join(figures)}</div>'


def _cuts(
    small: Image.Image, large: Image.Image, box: list[int], placement: Placement
) -> tuple[Image.Image, Image.Image]:
    """The surroundings of a box in both pictures, as the large one shows them."""
    corner, opposite = np.array(box[:2]), np.array(box[2:])
    margin = 0.75 * (opposite - corner)
    left, top = np.maximum(0, np.floor(corner - margin)).astype(int).tolist()
    right, bottom = np.minimum(large.size, np.ceil(opposite + margin)).astype(int).tolist()
    after = large.crop((left, top, right, bottom))
    after = after.resize(size_within(after.size, 320), Image.Resampling.BICUBIC)
    # From pixels of the cut to those of the small picture.
    pace_x, pace_y = (right - left) / after.width, (bottom - top) / after.height
    cut = np.array([[pace_x, 0, left], [0, pace_y, top], [0, 0, 1]])
    matrix = placement.to_small(large.size) @ cut
    before = small.transform(
        after.size,
        Image.Transform.AFFINE,
        tuple(matrix[:2].ravel()),
        Image.Resampling.BICUBIC,
    )
    return before, after


def _things(check: Check) -> str:
    if not check.things:
        return ""
    rows = "".join(
        f"<li>{escape(thing.why)} ({', '.join(map(str, thing.box))})</li>" for thing in check.things
    )
    return (
        "<h2>Faces and text</h2><p>No contradictions: a small face may not have been found, and a "
        "blurred letter is guessed. Those that differ are framed by broken lines.</p>"
        f"<ul>{rows}</ul>"
    )


def _added(check: Check) -> str:
    if "added" not in check.maps:
        return ""
    return (
        f'<h2>Where it adds</h2><figure><img alt="A map" src="{check.maps["added"]}">'
        "<figcaption>The lighter, the more detail has no source in the small picture."
        "</figcaption></figure>"
    )


def _image(picture: Image.Image, about: str) -> str:
    if max(picture.size) > _MAX_SIDE:
        size = size_within(picture.size, _MAX_SIDE)
        picture = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    link = "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
    return f'<img alt="{escape(about)}" src="{link}">'
