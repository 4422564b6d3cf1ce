"""An MCP server: agents enlarge pictures, and learn where their colours can be trusted.

An MCP client starts it (docs/integrations.md): `python mcp_server.py FOLDER`; agents may send the
pictures of FOLDER. TRUSTSCALE_URL and TRUSTSCALE_KEY name the service.
"""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.utilities.types import Image
from PIL import ExifTags
from PIL import Image as Pillow

from trustscale import Problem, Result, Trustscale

RULE = (
    "Trusted means, by default, that the mean colour error around the worst trusted point of a "
    "spot of 128×128 pixels is at most α on average over calibrations, pictures like theirs and "
    "spots, counted up to 0.25; a single picture may be worse. What is painted grey in the second "
    "picture is not trusted. Fine detail can be invented everywhere, so do not report text, "
    "numbers or faces that only the enlarged picture shows: read them in the original, or say that "
    "they cannot be read."
)
NO_PROMISE = (
    "Nothing is promised of this picture, so no part of it is marked as trusted: do not report "
    "what only the enlarged picture shows."
)
READ_RULE = (
    "The promise is about words: report only these, and do not guess the others from the picture."
)
NOT_READABLE = (
    "Text in the enlarged picture is not readable: this service cannot say which words are right, "
    "and a model can invent them. Read the original, or say that the text cannot be read. For "
    "whoever runs the service:"
)
GREY = 128
_ON_ITS_SIDE = range(5, 9)


def server(folder: Path, service: Trustscale) -> MCPServer:
    """The server for the pictures of a folder."""
    mcp = MCPServer("trustscale", instructions=RULE)

    @mcp.tool(structured_output=False)
    def upscale_with_trust(
        path: str,
        alpha: float | None = None,
        crop: tuple[int, int, int, int] | None = None,
        to_read: bool = False,
    ) -> list[str | Image]:
        """Enlarge a picture of the folder, and show where it can be trusted.

        The first picture is what the model made. The second shows only what is trusted, and grey
        elsewhere; it is left out where nothing is promised. Trusted means, by default, that the
        mean colour error around the worst trusted point of a spot of 128×128 pixels is at most α
        on average over calibrations, pictures like theirs and spots, counted up to 0.25; a single
        picture may be worse. Text, numbers and faces can be invented anywhere, so read them in
        the original only. Decide on `alpha`, the accepted error, before looking.

        Args:
            path: of the picture, inside the folder.
            alpha: a smaller one trusts less; default: the service's.
            crop: the part to show, left, top, right and bottom in pixels of the original.
            to_read: whether text is to be read: words that can be believed come as text; refused
                where the service cannot promise words.
        """
        picture = (folder / path).resolve()
        if not (picture.is_relative_to(folder.resolve()) and picture.is_file()):
            raise ToolError(f"{path} is no file in {folder}.")
        if crop is not None:
            _check(crop, _size(picture))
        try:
            result = service.upscale(picture, alpha=alpha, words=to_read)
        except (Problem, httpx.TransportError) as problem:
            is_unread = to_read and getattr(problem, "type", "") == "/problems/no-calibration"
            text = f"{NOT_READABLE} {problem}" if is_unread else str(problem)
            raise ToolError(text) from problem
        shown = [result.image]
        said = _read(result, crop) if to_read else [RULE]
        if result.guarantee["promised"]:
            sure = np.asarray(result.image.convert("RGB")).copy()
            sure[~result.mask] = GREY
            shown.append(Pillow.fromarray(sure))
            share, about = result.trusted_fraction, result.guarantee["about"]
            said.append(f"{share:.1%} of the whole picture can be relied on {about}.")
            said += _left_out(result)
            if result.detail is not None:
                told = (result.detail["plain"], result.detail["promise"])
                said.insert(0, " ".join(filter(None, told)))
        else:
            said = [NO_PROMISE, *(said if to_read else [])]
        said += [result.guarantee["plain"], result.guarantee["theorem"]]
        scale = result.document["scale"]
        pictures = [_png(_cropped(one, crop, scale)) for one in shown]
        return ["\n".join([*said, *result.warnings]), *pictures]

    return mcp


def _left_out(result: Result) -> list[str]:
    """What was left out of the mask, and where in the enlarged picture."""
    return [
        f"Not trusted: {thing['why']} In the enlarged picture from {left:.0f}, {top:.0f} to "
        f"{right:.0f}, {bottom:.0f}."
        for thing in result.left_out
        for left, right, top, bottom in [
            [pick(side) for side in zip(*thing["box"], strict=True) for pick in (min, max)]
        ]
    ]


def _read(result: Result, crop: Sequence[int] | None) -> list[str]:
    """The words that can be believed, in the order of lines, and how many cannot."""
    left, top, right, bottom = (result.document["scale"] * edge for edge in crop or (0, 0, 0, 0))
    seen = [
        word
        for word in result.words
        if crop is None or all(left <= x < right and top <= y < bottom for x, y in word["box"])
    ]
    is_promised = result.guarantee["promised"]
    words = [word["text"] for word in seen if word["trusted"] and is_promised]
    doubtful = len(seen) - len(words)
    return [
        READ_RULE,
        f"Words: {' '.join(words) or 'none'}.",
        f"Not to be believed: {doubtful} more.",
    ]


def _size(picture: Path) -> tuple[float, float]:
    """Width and height as the picture is shown; without a limit where only the service reads it."""
    try:
        with Pillow.open(picture) as opened:
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE
            return opened.size[::-1] if turned else opened.size
    except (OSError, ValueError, Pillow.DecompressionBombError):
        return math.inf, math.inf


def _check(crop: Sequence[int], size: tuple[float, float]) -> None:
    """Raise ToolError, before anything is paid, for a part that no picture of this size has."""
    (left, top, right, bottom), (width, height) = crop, size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        of = f", {width}×{height}" if math.isfinite(width) else ""
        raise ToolError(f"The crop {tuple(crop)} is not inside the picture{of}.")


def _cropped(picture: Pillow.Image, crop: Sequence[int] | None, scale: int) -> Pillow.Image:
    """The part of an enlarged picture for a box in the original. Raises ToolError."""
    if crop is None:
        return picture
    _check(crop, (picture.width // scale, picture.height // scale))
    left, top, right, bottom = (scale * edge for edge in crop)
    return picture.crop((left, top, right, bottom))


def _png(picture: Pillow.Image) -> Image:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return Image(data=out.getvalue(), format="png")


def main() -> None:
    """Talk to the client on standard input and output."""
    url = os.environ.get("TRUSTSCALE_URL", "http://127.0.0.1:8000")
    with Trustscale(url, os.environ.get("TRUSTSCALE_KEY")) as service:
        server(Path(sys.argv[1]), service).run()


if __name__ == "__main__":
    main()
