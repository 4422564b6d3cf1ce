"""What a check says, as it is answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from trustscale_server.proof.check.compare import Reduction
from trustscale_server.proof.check.things import Thing


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A place where the large picture shows something else than the small one."""

    box: Annotated[
        list[int],
        Field(description="Left, top, right and bottom in pixels of the large picture."),
    ]
    why: Annotated[str, Field(description="In a sentence for people.")]
    times: Annotated[
        float,
        Field(
            description="The largest difference, in multiples of what a faithful enlargement has."
        ),
    ]


@dataclass(frozen=True, slots=True)
class Found:
    """Where the small picture was found in the large one."""

    scale: Annotated[
        list[float],
        Field(description="Pixels of the large picture for one of the small, across and down."),
    ]
    mirrored: bool
    quarter_turns: Annotated[
        int,
        Field(
            description="Against the clock, which bring the large picture upright, once unmirrored."
        ),
    ]
    degrees: Annotated[
        float, Field(description="By how much it is still rotated then, with the clock.")
    ]
    shown: Annotated[
        list[int],
        Field(
            description="What of the small picture was compared: left, top, right and bottom in "
            "pixels."
        ),
    ]
    reduction: Annotated[
        Reduction, Field(description="How the small picture was most probably made.")
    ]


@dataclass(frozen=True, slots=True)
class Check:
    """What two pictures say of each other."""

    belong_together: bool
    sentences: Annotated[list[str], Field(description="All that is told, for people.")]
    consistency_db: Annotated[
        float | None,
        Field(description="How near the large picture comes when it is reduced: PSNR in decibels."),
    ] = None
    contradictions: list[Contradiction] = field(default_factory=list)
    things: Annotated[
        list[Thing],
        Field(
            description="Faces, and with the extra `text` lines of text, in both pictures; those "
            "that differ first. None of them is a contradiction."
        ),
    ] = field(default_factory=list)
    added: Annotated[
        float | None,
        Field(
            description="Detail without a source: root mean square of lightness, in levels of 255."
        ),
    ] = None
    found: Found | None = None
    maps: Annotated[
        dict[str, str],
        Field(
            description="PNG files as `data:` links, of what was compared: `contradictions` (64 is "
            "the limit) and `added` (8 for each level of detail without a source)."
        ),
    ] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the pictures belong together and nothing contradicts."""
        return self.belong_together and not self.contradictions
