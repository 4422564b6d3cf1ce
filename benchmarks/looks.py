"""Which looks are found in which uploads? `python -m benchmarks.looks DIR…`.

Inputs of each look are made from photographs and saved. For each way of making them and each kind
of file: the share in which each look is found, and the area under the ROC curve of its own look
against sharp ones in the same kind of file (of noise, where both look rough); then, of denoised
ones, against those that were sharpened as well.

A second table: lossless inputs that were enlarged or blurred a little. Of all of each kind, the
share whose softness, then whose trace, is above that of all but 1, 3 and 5 % of sharp ones; then
how many pass as sharp, and the share of these that show the trace, are told blurred, or are nearly
soft for one of both reasons.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.risk import phone
from benchmarks.table import print_table
from trustscale_server.calibration.intake import find_in
from trustscale_server.images.compression import Look
from trustscale_server.images.decode import PAIR_LIMITS, decode
from trustscale_server.images.degrade import Degradation, make_input
from trustscale_server.images.facts import TRACE, InputFeatures, look_at

SCALE = 4
FILES: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG 90": {"jpeg": 90},
    "JPEG 70": {"jpeg": 70},
    "WebP 75": {"webp": 75},
}
SHARPENED = "the same, sharpened"
SHARP: list[dict[str, Any]] = [{}, {"reduction": "area"}, {"reduction": "lanczos"}]
ALARMS = (0.01, 0.03, 0.05)
SLIGHT: dict[str, list[dict[str, Any]]] = {
    "sharp": [*SHARP, {"noise": 2}],
    **{
        f"×{factor}, {name}": [{"enlarged": factor, **steps}]
        for factor in (1.1, 1.2, 1.25, 1.33, 1.5)
        for name, steps in {
            "bicubic": {},
            "of an area reduction": {"reduction": "area"},
            "bilinear": {"kernel": "bilinear"},
            "Lanczos": {"kernel": "lanczos"},
        }.items()
    },
    "×1.25, noise 1": [{"enlarged": 1.25, "noise": 1}],
    "×1.25, noise 2": [{"enlarged": 1.25, "noise": 2}],
    "×1.25, sharpened": [{"enlarged": 1.25, "sharpened": 0.5}],
    **{f"blur {level}": [{"blur": level}] for level in (0.4, 0.5, 0.6)},
}
KINDS: dict[str, tuple[Look, list[dict[str, Any]]]] = {
    "sharp": ("sharp", SHARP),
    "sharpened": ("sharp", [{"sharpened": 1}]),
    "noise 2": ("sharp", [{"noise": 2}]),
    "noise 6": ("rough", [{"noise": 6}]),
    **{
        f"×{factor}": ("soft", [{"enlarged": factor, "kernel": k} for k in ("bicubic", "lanczos")])
        for factor in (1.25, 1.5, 2)
    },
    "blur 0.7": ("soft", [{"blur": 0.7}]),
    **{
        f"×{factor}, bilinear": ("bilinear", [{"enlarged": factor, "kernel": "bilinear"}])
        for factor in (1.25, 1.5, 2)
    },
    "noise 3, median": ("denoised", [{"noise": 3, "median": True}]),
    "noise 4, total variation": ("denoised", [{"noise": 4, "variation": 0.06}]),
    SHARPENED: ("smoothed", [{"noise": 3, "median": True, "sharpened": 1}]),
}
TOLD: tuple[Look, ...] = ("fine", "rough", "soft", "bilinear", "smoothed", "denoised")


def looked_at(folder: Path, every: int) -> dict[tuple[str, str], list[InputFeatures]]:
    """By kind and file, the facts of the inputs from all photographs of a folder."""
    found = defaultdict(list)
    for files in find_in(folder)[::every]:
        truth = decode(Path(str(files.y)).read_bytes(), PAIR_LIMITS).rgb
        for form, saved in FILES.items():
            for kind, (_, ways) in KINDS.items():
                for steps in ways:
                    found[kind, form].append(
                        look_at(*make_input(truth, SCALE, Degradation(**steps, **saved), 0))
                    )
        upload = decode(phone(Image.fromarray(truth)), PAIR_LIMITS)
        found["phone", "JPEG 90"].append(look_at(upload.rgb, upload.compression))
    return found


def slightly_soft(folder: Path, every: int, scale: int) -> list[tuple[str, ...]]:
    """The rows of the second table, for inputs reduced by this scale."""
    found = defaultdict(list)
    for files in find_in(folder)[::every]:
        truth = decode(Path(str(files.y)).read_bytes(), PAIR_LIMITS).rgb
        for kind, ways in SLIGHT.items():
            for steps in ways:
                found[kind].append(look_at(*make_input(truth, scale, Degradation(**steps), 0)))
    passing = {
        kind: [each for each in facts if each.look in {"sharp", "fine", "rough"}]
        for kind, facts in found.items()
    }
    rows = []
    for kind, facts in found.items():
        shares = [
            " / ".join(
                f"{np.mean([getattr(each, name) > level for each in facts]):.2f}"
                for level in np.quantile(
                    [getattr(each, name) for each in passing["sharp"]], [1 - a for a in ALARMS]
                )
            )
            for name in ("softness", "trace")
        ]
        told = [
            [each.trace >= TRACE, each.blurred >= 0, each.is_nearly_soft] for each in passing[kind]
        ]
        of_these = [f"{share:.2f}" for share in np.mean(told, axis=0)] if told else ["-"] * 3
        rows.append((kind, *shares, f"{len(told)} of {len(facts)}", *of_these))
    return rows


def areas(
    found: dict[tuple[str, str], list[InputFeatures]], kind: str, form: str, look: Look
) -> str:
    """Under the ROC curves of a look."""
    one, sharp = found[kind, form], found["sharp", form]
    if look == "sharp":
        return ""
    if look == "rough":
        rough = [
            [each for each in facts if each.look in {"fine", "rough"}] for facts in (one, sharp)
        ]
        return area(*rough, "noisy")
    if look == "denoised":
        against = area(one, found[SHARPENED, form], "denoised")
        return f"{area(one, sharp, 'smoothed')}, {against}"
    return area(one, sharp, "softness" if look == "soft" else look)


def area(one: Sequence[InputFeatures], others: Sequence[InputFeatures], name: str) -> str:
    """Under the ROC curve of a fact, which is larger in the first."""
    first, second = (np.array([getattr(each, name) for each in facts]) for facts in (one, others))
    return f"{(first[:, None] > second[None]).mean():.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth photograph")
    given = parser.parse_args()
    looks = {kind: look for kind, (look, _) in KINDS.items()} | {"phone": "smoothed"}
    for folder in given.folders:
        found = looked_at(folder, given.every)
        print(f"\n{folder}\n")
        rows = []
        for (kind, form), facts in sorted(found.items(), key=lambda item: item[0][1]):
            shares = [f"{np.mean([one.look == look for one in facts]):.2f}" for look in TOLD]
            rows.append((form, kind, *shares, areas(found, kind, form, looks[kind])))
        print_table(("saved as", "made by", *(f"found: {look}" for look in TOLD), "ROC"), rows)
        for scale in (SCALE, SCALE // 2):
            print(f"\nlossless, reduced by {scale}\n")
            head = (
                "made by",
                "softness",
                "trace",
                "sharp",
                "of these: trace",
                "blurred",
                "nearly soft",
            )
            print_table(head, slightly_soft(folder, given.every, scale))


if __name__ == "__main__":
    main()
