"""The one rule of x/, y/, labels/ and groups: what names of files mean."""

from __future__ import annotations

import pytest

from app.calibration.layout import arrange, placed

ELSEWHERE = "not an image in x/, y/ or labels/ (y/NAME.png, or y/GROUP/NAME.png)"
DEEP = "too many folders below y/ (y/NAME.png, or y/GROUP/NAME.png)"

# Paths; the pairs that they make, as "name: x y label group"; the items that are left out.
LAYOUTS = {
    "truths": (["y/a.png", "y/b.JPG"], ["a: y/a.png", "b: y/b.JPG"], {}),
    "pairs of any suffix": (["x/a.webp", "y/a.png"], ["a: y/a.png x/a.webp"], {}),
    "labels": (
        ["y/a.png", "y/b.png", "labels/b.png", "labels/predictions.json"],
        ["a: y/a.png", "b: y/b.png labels/b.png"],
        {},
    ),
    "inside one folder": (["set/x/a.png", "set/y/a.png"], ["a: set/y/a.png set/x/a.png"], {}),
    "written large": (["X/a.png", "Y/a.png"], ["a: Y/a.png X/a.png"], {}),
    "groups": (
        ["x/day/a.png", "y/day/a.png", "x/b.png", "y/b.png"],
        ["b: y/b.png x/b.png", "day.a: y/day/a.png x/day/a.png in day"],
        {},
    ),
    "images of one folder": (["a.png", "b.png"], ["a: a.png", "b: b.png"], {}),
    "images of one folder below": (["p/a.png", "p/b.png"], ["a: p/a.png", "b: p/b.png"], {}),
    "images of several folders": (
        ["p/a.png", "q/b.png"],
        [],
        {"p/a.png": ELSEWHERE, "q/b.png": ELSEWHERE},
    ),
    "images beside folders": (["a.png", "y/b.png"], ["b: y/b.png"], {"a.png": ELSEWHERE}),
    "images beside inputs": (
        ["a.png", "x/a.png"],
        [],
        {"a.png": ELSEWHERE, "a": "y/ has no image of this name"},
    ),
    "another folder": (["z/a.png", "y/b.png"], ["b: y/b.png"], {"z/a.png": ELSEWHERE}),
    "too deep": (
        ["p/q/y/a.png", "y/day/dusk/a.png"],
        [],
        {"p/q/y/a.png": ELSEWHERE, "y/day/dusk/a.png": DEEP},
    ),
    "no partner": (
        ["x/a.png", "x/b.png", "y/b.png", "y/c.png", "labels/d.png"],
        ["b: y/b.png x/b.png"],
        {
            "a": "y/ has no image of this name",
            "c": "x/ has no image of this name",
            "d": "y/ has no image of this name",
        },
    ),
    "two of a name": (
        ["y/a.png", "y/a.jpg", "y/b.png"],
        ["b: y/b.png"],
        {"a": "several files have this name: y/a.jpg, y/a.png"},
    ),
    "one name from two groups": (
        ["y/a.b/c.png", "y/a/b.c.png"],
        [],
        {"a.b.c": "several files have this name: y/a.b/c.png, y/a/b.c.png"},
    ),
    "no images": (
        ["readme.txt", "y/notes.txt", "y/a.png"],
        ["a: y/a.png"],
        {"y/notes.txt": "not an image file"},
    ),
    "clutter": (["y/a.png", "y/.DS_Store", "__MACOSX/y/a.png", ".old/y/a.png"], ["a: y/a.png"], {}),
    "a name too long": ([f"y/{'ж' * 60}.png"], [], {"ж" * 60: "the name is too long"}),
    "a group with spaces": (
        ["y/ day/a.png"],
        [],
        {" day.a": "the group has no name, or one with spaces around it"},
    ),
}


def by_name(items) -> dict[str, str]:
    return {item["name"]: item["reason"] for item in items}


@pytest.mark.parametrize(("paths", "pairs", "items"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_rule(paths, pairs, items):
    """What each layout means."""
    found = arrange(map(placed, sorted(paths)))
    words = [
        f"{pair.name}: {' '.join(path for path in (pair.y, pair.x, pair.label) if path)}"
        + (f" in {pair.folder}" if pair.folder else "")
        for pair in found.pairs
    ]
    assert (words, by_name(found.items)) == (pairs, items)
