"""A pair from the names of its files to the request of a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

# Enlarged is what somebody made of x.
Role = Literal["x", "y", "labels", "enlarged"]
ROLES: Final[tuple[Role, ...]] = ("x", "y", "labels", "enlarged")


@dataclass(frozen=True, slots=True)
class PairSource:
    """What one pair is made of.

    name: of the pair.
    paths: of its files by role, where they come from; a stored request has none.
    sha256: of the files that were checked, by role.
    group, scene: see `grouping.py`.
    prediction: the SHA-256 of the prediction that the label was drawn on, if known.
    variant: in which way X is made from Y, where there are several.
    """

    name: str
    paths: Mapping[Role, str] = field(default_factory=dict)
    sha256: Mapping[Role, str] = field(default_factory=dict)
    group: str | None = None
    scene: str | None = None
    prediction: str | None = None
    variant: str | None = None

    @property
    def upload(self) -> str:
        """The name of its files, which those of other variants share."""
        return self.name if self.variant is None else self.name.removesuffix(f"~{self.variant}")

    def in_variants(self, variants: Iterable[str | None]) -> list[PairSource]:
        """Return the pairs of one upload: one per way in which X is made; None: the only one."""
        return [
            self
            if variant is None
            else replace(self, name=f"{self.name}~{variant}", variant=variant)
            for variant in variants
        ]
