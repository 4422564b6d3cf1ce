"""Files are arranged to pairs by what their paths say (`layout.py`); nothing is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple
from urllib.parse import quote

from trustscale_server.calibrating.intake.layout import ELSEWHERE, FilePlace, is_text, wrong_group
from trustscale_server.calibrating.pair_source import ROLES, PairSource, Role

MAX_NAME_BYTES: Final = 240  # percent-encoded; with its role it becomes a file name among the blobs


class Arranged(NamedTuple):
    """The pairs in the order of their names, and an item (name, reason) for every other file."""

    pairs: list[PairSource]
    items: list[dict[str, str]]


def arrange(files: Iterable[FilePlace | None], *, folders: bool = False) -> Arranged:
    """Make pairs of files, given what `place_of` says of each.

    A name that several files of one role have is left out. `folders`: DIR/NAME.ext without x/, y/
    and labels/ is a truth in the group DIR.
    """
    judged = _with_roles([file for file in files if file is not None], folders=folders)
    items = [{"name": file.path, "reason": file.reason} for file in judged if file.reason]
    sides: dict[Role, dict[str, list[FilePlace]]] = {role: defaultdict(list) for role in ROLES}
    for file in judged:
        if file.role is not None and not file.reason:
            sides[file.role][file.name].append(file)
    sides["enlarged"] = _by_input(sides["enlarged"], sides["x"])
    needed: list[Role] = [role for role in ("x", "enlarged") if sides[role]]
    if needed == ["enlarged"]:
        needed = ["x"]  # what the enlarged pictures were made of, which every pair lacks
    pairs = []
    for name in sorted(set().union(*sides.values())):
        by_role = {role: sides[role].get(name, []) for role in ROLES}
        reason = _why_no_pair(name, by_role, needed)
        if reason:
            items.append({"name": name, "reason": reason})
            continue
        paths = {role: files[0].path for role, files in by_role.items() if files}
        pairs.append(PairSource(name, paths, group=by_role["y"][0].folder))
    return Arranged(pairs, items)


def _with_roles(files: Sequence[FilePlace], *, folders: bool) -> list[FilePlace]:
    """The files, each with a role or a reason; a loose one is Y if nothing contradicts that."""
    loose = [file for file in files if file.role is None and not file.reason]
    if folders:
        is_plain = all(file.folder is not None for file in loose)
    else:
        is_plain = len({file.folder for file in loose}) <= 1
    are_truths = is_plain and not any(file.role for file in files)

    def judged(file: FilePlace) -> FilePlace:
        if file.role is not None or file.reason:
            return file
        if not are_truths:
            return replace(file, reason=ELSEWHERE)
        return replace(file, role="y", folder=file.folder if folders else None)

    return [judged(file) for file in files]


def is_made_of(stem: str, source: str) -> bool:
    """Return whether a file is named like its source, also where a program added to the name.

    `cat-4x` is made of `cat`, and `cats` is not.
    """
    return stem == source or (stem.startswith(source) and not stem[len(source)].isalnum())


def _by_input(
    enlarged: Mapping[str, list[FilePlace]], inputs: Iterable[str]
) -> dict[str, list[FilePlace]]:
    """Enlarged files by the name of what they were made of."""
    names, by_input = set(inputs), defaultdict[str, list[FilePlace]](list)
    for name, files in enlarged.items():
        sources = [] if name in names else [source for source in names if is_made_of(name, source)]
        by_input[max(sources, key=len, default=name)] += files
    return by_input


def _why_no_pair(
    name: str, by_role: Mapping[Role, Sequence[FilePlace]], needed: Iterable[Role]
) -> str | None:
    ys = by_role["y"]
    several = next((side for side in by_role.values() if len(side) > 1), None)
    if several:
        return f"several files have this name: {', '.join(sorted(file.path for file in several))}"
    if not ys:
        return "y/ has no image of this name"
    if lacking := [role for role in needed if not by_role[role]]:
        return f"{lacking[0]}/ has no image of this name"
    if not is_text(name):
        return "the name has control characters"
    if len(quote(name, safe="")) > MAX_NAME_BYTES:
        return "the name is too long"
    return None if ys[0].folder is None else wrong_group(ys[0].folder)
