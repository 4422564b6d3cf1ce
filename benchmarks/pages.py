"""Are pages and screenshots nearer to the truth than by a plain enlargement?

    python -m benchmarks.pages

Lines of text in several sizes and a screen are drawn, reduced by 4 in three ways, saved as PNG and
JPEG and enlarged by bicubic interpolation and by both models. For each: the class that it is read
as, the mean squared error of the 8-bit values, and which model `auto` takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Resampling

from benchmarks.risk import SCALE
from benchmarks.table import print_table
from benchmarks.uploads import saved
from trustscale_server.bootstrap.fields import DEFAULT_ROUTING
from trustscale_server.calibration.shipped import shipped_calibration
from trustscale_server.images.decode import decode
from trustscale_server.images.features import look_at
from trustscale_server.images.limits import PAIR_LIMITS
from trustscale_server.sampling.measure import predict
from trustscale_server.upscalers.base import Source, routed
from trustscale_server.upscalers.embedded.shipped import SHIPPED_MODELS
from trustscale_server.upscalers.embedded.upscaler import EmbeddedUpscaler

TEXT = (
    "The committee met on 3 March 2024 and agreed that 8.5 % of the budget, about 1,250,000, "
    "should go to the repair of the north wing. "
) * 4
SIDE = 512
SIZES = (16, 24, 40)


def lines(size: int) -> Image.Image:
    """A page with lines of black text, of a font of so many pixels."""
    page = Image.new("RGB", (SIDE, SIDE), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    for number, top in enumerate(range(10, SIDE - size, round(size * 1.4))):
        begin = 7 * number
        pen.text((10, top), TEXT[begin : begin + 2 * SIDE // size], fill="black", font=font)
    return page


def screen() -> Image.Image:
    """A list of messages, as an application shows it."""
    shown = Image.new("RGB", (SIDE, SIDE), (245, 246, 248))
    pen = ImageDraw.Draw(shown)
    pen.rectangle((0, 0, SIDE, 60), fill=(40, 90, 160))
    pen.text((20, 12), "Inbox  Drafts  Sent", fill="white", font=ImageFont.load_default(32))
    large, small = ImageFont.load_default(28), ImageFont.load_default(22)
    for number, top in enumerate(range(80, SIDE - 84, 100)):
        box = (20, top, SIDE - 20, top + 84)
        pen.rounded_rectangle(box, 8, outline=(200, 204, 210), width=2, fill="white")
        pen.ellipse((36, top + 12, 96, top + 72), fill=(180, 100, 60))
        pen.text((110, top + 8), f"Message {number} from Anna", fill=(20, 20, 30), font=large)
        pen.text((110, top + 46), "At 12:30 in room 4.17", fill=(90, 95, 100), font=small)
    return shown


def uploads() -> Iterator[tuple[str, Image.Image, bytes]]:
    """What is uploaded, its truth, and the file."""
    drawn = {f"text of {size} px": lines(size) for size in SIZES} | {"screen": screen()}
    for title, truth in drawn.items():
        for way in (Resampling.BICUBIC, Resampling.BOX, Resampling.NEAREST):
            small = truth.resize((truth.width // SCALE, truth.height // SCALE), way)
            name = f"{title}, {way.name.lower()}"
            yield f"{name}, PNG", truth, saved(small, "PNG")
            yield f"{name}, JPEG 75", truth, saved(small, "JPEG", 75)


async def main() -> None:
    """Print the table."""
    models = {name: EmbeddedUpscaler(name, name, precision="bf16") for name in SHIPPED_MODELS}
    everything = shipped_calibration("span-x4-bf16").everything
    rows = []
    for title, truth, file in uploads():
        upload = decode(file, PAIR_LIMITS)
        features = look_at(upload.rgb, upload.compression)
        plain = Image.fromarray(upload.rgb).resize(truth.size, Resampling.BICUBIC)
        made = {"bicubic": np.asarray(plain)}
        for name, model in models.items():
            made[name] = await predict(model, Source(upload.rgb, features), 1)
        wanted = np.asarray(truth, np.float64)
        errors = [f"{np.square(picture - wanted).mean():.0f}" for picture in made.values()]
        kind = everything.class_of(features)
        rows.append((title, kind, *errors, routed(DEFAULT_ROUTING, kind or "lossless")))
    print_table(("upload", "class", "bicubic", *models, "auto"), rows)


if __name__ == "__main__":
    asyncio.run(main())
