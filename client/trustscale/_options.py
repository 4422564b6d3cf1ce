"""The options of calls that bring pairs, and whether a call's options are known."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from trustscale._fields import CalibrationOptions


class PairOptions(TypedDict, total=False):
    """Which pairs belong together, and who hears of their sending.

    groups: by name of the pair. scenes: likewise; pairs of one scene count once. group_by:
    "folder", or a column of the pairs' manifest.csv. scene_by: likewise; "manifest": its column
    scene or pool_id. on_sent: called with (bytes sent, all bytes).
    """

    groups: Mapping[str, str] | None
    scenes: Mapping[str, str] | None
    group_by: str | None
    scene_by: str | None
    on_sent: Callable[[int, int], None] | None


class CalibrateOptions(CalibrationOptions, PairOptions, total=False):
    """Which pairs belong together, and the configuration."""


class ExtendOptions(PairOptions, total=False):
    """Which pairs belong together, and what becomes of the calibration."""

    activate: bool
    force: bool


def checked(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a call.

    Raises:
        TypeError: one is unknown; the message names what was probably meant.
    """
    names = kind.__annotations__
    for name in options:
        if name not in names:
            similar = difflib.get_close_matches(name, names, 1)
            hint = f" Did you mean {similar[0]!r}?" if similar else ""
            raise TypeError(f"There is no option {name!r}.{hint}")
    return dict(options)
