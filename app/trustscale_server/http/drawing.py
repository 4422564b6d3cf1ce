"""Files that are made of a stored result when they are asked for."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine
from contextlib import closing
from typing import IO, Any

from PIL import Image

from trustscale_server.http.state import State
from trustscale_server.images.encoding.encode import Attached, FormatName, picture
from trustscale_server.images.encoding.png import to_bytes, to_png
from trustscale_server.images.encoding.tiff import Pages
from trustscale_server.images.metadata import metadata_of
from trustscale_server.images.xmp import texts_of
from trustscale_server.platform.errors import BadRequest, NotFound
from trustscale_server.platform.tasks import shielded
from trustscale_server.proof.marked import write_marked
from trustscale_server.proof.marks import mark_in
from trustscale_server.serving.added import AddedDetail
from trustscale_server.serving.added_cells import CELLS, read_cells, zones
from trustscale_server.serving.document import Result, Unmasked
from trustscale_server.serving.drawings import png_believed_of, png_overlay, png_safe_of
from trustscale_server.serving.file_names import MASK, REST, TRUST
from trustscale_server.serving.picture_format import ChosenFormat, chosen_format
from trustscale_server.serving.provenance import UNMASKED_TEXT, png_text
from trustscale_server.serving.stored_answer import image_file, pixels_of, read_codes, read_mask
from trustscale_server.stores.spool import spooled


async def in_turn(state: State, drawing: Coroutine[Any, Any, bytes]) -> IO[bytes]:
    """Await the drawing of a file in its turn, so that few are in memory at once."""
    with closing(drawing):
        async with state.context.drawing.slot():
            drawn = await drawing
            return await asyncio.to_thread(spooled, lambda out: out.write(drawn))


async def converted(
    state: State, result: Result | Unmasked, data: bytes, file_format: FormatName
) -> bytes:
    """Return the stored picture in another format, its metadata the same; TIFF with all masks.

    Raises:
        BadRequest: the picture has 16 bits, was stored with loss, or does not fit the format.
    """
    if result.raster is not None and result.raster.stretch is not None:
        raise BadRequest(
            f"A result of 16 bits can only be fetched in its own format, {result.format}."
        )
    if not chosen_format(result.format, result.quality).is_lossless:
        raise BadRequest(
            f"The picture was stored as {result.format}, with loss: it can be had in that format "
            "only. Send format=png with the request to have it in all of them."
        )
    trust = mask_file = b""
    if isinstance(result, Result):
        if chosen_format(file_format, None).holds_pages:
            trust = await state.services.stores.results.blob(result.id, TRUST)
        mask_file = await mask_at(state, result, result.alpha)

    def convert() -> bytes:
        image = Image.open(io.BytesIO(data))
        pixels = pixels_of(image)
        ChosenFormat(file_format, None).raise_if_impossible(
            max(image.size), transparent=pixels.shape[2] == 4
        )
        text, pages = dict(UNMASKED_TEXT), None
        if mask_file:
            mask, text = read_mask(mask_file)
            pages = Pages(mask, read_codes(trust)) if trust else None
        metadata, _ = metadata_of(image, with_place=True)
        mark = mark_in(texts_of(image.info["xmp"])) if "xmp" in image.info else None
        attached = Attached(text, metadata, pages)
        if mark is None:  # of an answer that an earlier release stored
            return picture(pixels, file_format, attached=attached)
        return to_bytes(write_marked)(pixels, file_format, mark, attached=attached)

    return await shielded(convert)


async def mask_at(state: State, result: Result, alpha: float) -> bytes:
    """Return the mask of a stored answer at α, a PNG file."""
    if alpha == result.alpha:
        return await state.services.stores.results.blob(result.id, MASK)
    calibration = await state.services.calibrations.get(result.calibration)
    trust = await state.services.stores.results.blob(result.id, TRUST)
    subset = result.subset_of(calibration)
    kind = result.input_class.name if result.input_class else None

    def draw() -> bytes:
        curve = subset.curve
        text = png_text(
            calibration, subset.guarantee, alpha, curve.threshold(alpha), result.group, kind
        )
        if result.batch is not None:  # its mask has another threshold, which is not kept
            del text["trustscale:threshold"]
        return to_png(curve.mask_of_code(read_codes(trust), alpha), text)

    return await shielded(draw)


async def overlay_at(state: State, result: Result, alpha: float) -> bytes:
    """Return the picture with what is outside the mask at α hatched, a PNG file."""
    mask = await mask_at(state, result, alpha)
    image = await state.services.stores.results.blob(result.id, image_file(result))
    return await shielded(png_overlay, result, image, mask)


async def believed_at(state: State, result: Result, alpha: float) -> bytes:
    """Return the picture inside the mask at α, and a plain enlargement outside, a PNG file."""
    mask = await mask_at(state, result, alpha)
    image = await state.services.stores.results.blob(result.id, image_file(result))
    rest = await state.services.stores.results.blob(result.id, REST)
    return await shielded(png_believed_of, result, image, mask, rest)


async def added_zones(state: State, result: Result, rho: float) -> bytes:
    """Return where added detail holds up at ρ, a PNG file. Raises NotFound: it is not known."""
    added, cells = await _added(state, result)
    subset = result.subset_of(await state.services.calibrations.get(result.calibration))
    held = None if added.held is None else subset.added_threshold(rho)
    width, height = result.reduced_from or (result.width, result.height)
    return await shielded(
        lambda: to_png(
            zones(read_cells(cells), held, (height, width), (result.height, result.width)), {}
        )
    )


async def safe_picture(state: State, result: Result) -> bytes:
    """Return the picture with its detail in proportion to how real it probably is, a PNG file.

    Raises:
        NotFound: nothing is known of what was added.
    """
    _, cells = await _added(state, result)
    blob = state.services.stores.results.blob
    image, mask, rest = [await blob(result.id, name) for name in (image_file(result), MASK, REST)]
    return await shielded(png_safe_of, result, image, mask, rest, cells)


async def _added(state: State, result: Result) -> tuple[AddedDetail, bytes]:
    if result.added is None:
        raise NotFound(f"What the model added to {result.id!r} is not known.")
    return result.added, await state.services.stores.results.blob(result.id, CELLS)
