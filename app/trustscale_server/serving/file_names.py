"""The names of an answer's files, in zips, folders and the store; its picture's is `image_file`."""

from __future__ import annotations

from typing import Final

MASK: Final = "mask.png"
TRUST: Final = "trust.png"
TRUST_COG: Final = "trust.cog.tiff"
CARD: Final = "card.png"
"""The picture with a caption below, in zips and folders."""
ADDED: Final = "added.png"
"""Where detail is doubtful, unchanged, or holds up."""
SAFE_COPY: Final = "safe.png"
"""The picture with its detail in proportion to how real it probably is."""
BELIEVED: Final = "believed.png"
"""The picture where it is trusted, something plain elsewhere."""
REST: Final = "rest"
"""The stored file of the upload, of which `believed.png` is made again for masks of other α."""
