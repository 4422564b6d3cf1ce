"""An MCP server: agents enlarge pictures, and learn where their colours can be trusted.

An MCP client starts it (docs/integrations.md): `python mcp_server.py FOLDER`; agents may send the
pictures of FOLDER. TRUSTSCALE_URL and TRUSTSCALE_KEY name the service.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.utilities.types import Image
from PIL import Image as Pillow

from trustscale import Problem, Result, Trustscale

RULE = (
    "The promise is about colours: where the second picture is not painted grey, local colours are "
    "right within the error that the statement names. Fine detail can be invented everywhere, so "
    "do not report text, numbers or faces that only the enlarged picture shows: read them in the "
    "original, or say that they cannot be read."
)
READ_RULE = (
    "The promise is about words: report only these, and do not guess the others from the picture."
)
NOT_READABLE = (
    "Text in the enlarged picture is not readable: no calibration of this service is for text, so "
    "nothing says which words are right, and a model can invent them. Read the original, or say "
    "that the text cannot be read. Whoever runs the service can calibrate for text: "
    "`trustscale calibrate FOLDER --metric text`."
)
GREY = 128


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

        The first picture is what the model made. The second is the same with all that is doubtful
        painted grey: there, colours are right within `alpha`. Text, numbers and faces can be
        invented anywhere, so read them in the original only. Decide on `alpha`, the tolerated
        error, before looking.

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
        try:
            result = service.upscale(picture, alpha=alpha, words=to_read)
        except (Problem, httpx.TransportError) as problem:
            is_unread = to_read and getattr(problem, "type", "") == "/problems/no-calibration"
            raise ToolError(NOT_READABLE if is_unread else str(problem)) from problem
        sure = np.asarray(result.image.convert("RGB")).copy()
        sure[~result.mask] = GREY
        pictures = [
            _png(_cropped(shown, crop, result.document["scale"]))
            for shown in (result.image, Pillow.fromarray(sure))
        ]
        share = f"{result.trusted_fraction:.1%} of the whole picture is trusted."
        said = _read(result, crop) if to_read else [RULE]
        said += [share, result.guarantee["plain"], result.guarantee["theorem"]]
        return ["\n".join([*said, *result.warnings]), *pictures]

    return mcp


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


def _cropped(picture: Pillow.Image, crop: Sequence[int] | None, scale: int) -> Pillow.Image:
    """The part of an enlarged picture for a box in the original. Raises ToolError."""
    if crop is None:
        return picture
    left, top, right, bottom = (scale * edge for edge in crop)
    if not (0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height):
        width, height = picture.width // scale, picture.height // scale
        raise ToolError(f"The crop {tuple(crop)} is not inside the picture, {width}×{height}.")
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
