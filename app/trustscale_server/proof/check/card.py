"""A card of a check: the large picture with its contradictions framed, and what was found below."""

from __future__ import annotations

import io
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trustscale_server.pixels.resize import size_within
from trustscale_server.platform.errors import ConfigError
from trustscale_server.proof.card import Caption, card
from trustscale_server.proof.check.document import Check
from trustscale_server.proof.pixel_digest import check_number, pixel_digest

CheckCardForm = Literal["png", "webp", "jpeg"]

_MAX_SIDE: Final = 1600  # pixels of the picture
_FORMS: Final[dict[str, CheckCardForm]] = {
    ".png": "png",
    ".webp": "webp",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
}


def card_form(suffix: str) -> CheckCardForm:
    """Return the form of a card by how its file's name ends. Raises ConfigError: no card has it."""
    if (form := _FORMS.get(suffix.lower())) is None:
        raise ConfigError(f"A card is a file that ends in {', '.join(_FORMS)}, not {suffix!r}.")
    return form


def check_card(
    small: NDArray[np.uint8], large: NDArray[np.uint8], check: Check, form: CheckCardForm
) -> bytes:
    """Return the card of a check of two pictures, as a file.

    The picture has at most 1600 pixels on a side. The number is that of the large one's pixels.
    """
    picture = Image.fromarray(large)
    if max(picture.size) > _MAX_SIDE:
        size = size_within(picture.size, _MAX_SIDE)
        picture = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
    share = picture.width / large.shape[1]
    frames = [
        (share * left, share * top, share * right, share * bottom)
        for left, top, right, bottom in (place.box for place in check.contradictions)
    ]
    pixels = card(np.asarray(picture), _caption(small, large, check), frames=frames, is_doubt=True)
    out = io.BytesIO()
    quality = {} if form == "png" else {"quality": 92}
    Image.fromarray(pixels).save(out, form.upper(), **quality)
    return out.getvalue()


def _caption(small: NDArray[np.uint8], large: NDArray[np.uint8], check: Check) -> Caption:
    (height, width), (high, wide) = small.shape[:2], large.shape[:2]
    number = len(check.contradictions)
    text = "Silence proves nothing: details, letters and faces may be invented anywhere."
    if not check.belong_together:
        lead, text = "This picture and its alleged source do not belong together.", ""
    elif number:
        where = "one place, which is" if number == 1 else f"{number} places, which are"
        lead = f"It contradicts the small picture it was made from at {where} framed."
    else:
        lead = "No contradiction with the small picture it was made from."
    origin = f"{wide} × {high} pixels, compared with {width} × {height}"
    if check.consistency_db is not None:
        origin += f" · consistency {check.consistency_db} dB"
    return Caption(
        lead=lead,
        text=text,
        origin=origin,
        check=f"Trustscale check {check_number(pixel_digest(large))}",
        is_warning=not check.holds,
    )
