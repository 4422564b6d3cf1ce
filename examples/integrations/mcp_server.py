"""An MCP server: agents enlarge pictures, and learn where their colours can be trusted.

An MCP client starts it (docs/integrations.md): `python mcp_server.py FOLDER`; agents may send the
pictures of FOLDER. TRUSTSCALE_URL and TRUSTSCALE_KEY name the service.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import httpx
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.utilities.types import Image
from PIL import Image as Pillow

from trustscale import Problem, Trustscale

RULE = (
    "The promise is about colours: where the mask is white, local colours are right within the "
    "error that the statement names. Fine detail can be invented everywhere, so do not report "
    "text, numbers or faces that only the enlarged picture shows: read them in the original, or "
    "say that they cannot be read."
)


def server(folder: Path, service: Trustscale) -> MCPServer:
    """The server for the pictures of a folder."""
    made = MCPServer("trustscale", instructions=RULE)

    @made.tool(structured_output=False)
    def upscale_with_trust(path: str, alpha: float | None = None) -> list[str | Image]:
        """Enlarge a picture of the folder, and mark where it can be trusted.

        Where the mask, the second picture, is white, colours are right within `alpha`. Text,
        numbers and faces can be invented anywhere: read them in the original only. Decide on
        `alpha`, the tolerated error, before looking.

        Args:
            path: of the picture, inside the folder.
            alpha: a smaller one trusts less; default: the service's.
        """
        picture = (folder / path).resolve()
        if not (picture.is_relative_to(folder.resolve()) and picture.is_file()):
            raise ToolError(f"{path} is no file in {folder}.")
        try:
            result = service.upscale(picture, alpha=alpha)
        except (Problem, httpx.TransportError) as problem:
            raise ToolError(str(problem)) from problem
        share = f"{result.trusted_fraction:.1%} of it is trusted. {result.guarantee['plain']}"
        said = [RULE, share, result.guarantee["theorem"], *result.warnings]
        return ["\n".join(said), _png(result.image), _png(Pillow.fromarray(result.mask))]

    return made


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
