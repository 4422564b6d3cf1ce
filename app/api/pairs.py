"""POST /v1/admin/pairs/check: which files make pairs, before any of them is sent."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from app.api.deps import AdminDep, admin_router
from app.api.documents import Item
from app.calibration.layout import arrange, placed

# Files of x/, y/ and labels/ of the largest upload, and some more.
MAX_NAMES: Final = 100_000
# No system has longer paths. With a limit, text that is none is refused, too.
MAX_LENGTH: Final = 4096

router = admin_router("pairs", "bad-request")


class NamesIn(BaseModel):
    """The paths of files, with forward slashes, as they lie in a folder or an archive."""

    model_config = ConfigDict(extra="forbid")

    names: list[Annotated[str, Field(max_length=MAX_LENGTH)]] = Field(max_length=MAX_NAMES)
    folders: bool = Field(
        False, description="Whether images in DIR/NAME, without x/ and y/, are truths in groups."
    )


class ArrangedPair(BaseModel):
    """One pair, its files by their paths."""

    name: str
    x: str | None
    y: str
    label: str | None
    group: str | None


class ArrangedOut(BaseModel):
    """What a calibration would make of files of these names."""

    pairs: list[ArrangedPair]
    groups: list[str]
    items: list[Item] = Field(description="What cannot be used.")


@router.post("/check")
async def check_pairs(asked: NamesIn, _: AdminDep) -> ArrangedOut:
    """Which files make pairs, in which groups, and what is wrong with the others.

    Only names are looked at; sizes and contents are checked when the files are sent.
    """
    found = arrange(map(placed, asked.names), folders=asked.folders)
    return ArrangedOut(
        pairs=[
            ArrangedPair(name=pair.name, x=pair.x, y=pair.y, label=pair.label, group=pair.folder)
            for pair in found.pairs
        ],
        groups=sorted({pair.folder for pair in found.pairs if pair.folder is not None}),
        items=[Item(**item) for item in found.items],
    )
