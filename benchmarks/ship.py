"""Make the calibrations that are shipped: `python -m benchmarks.ship DIR NAME…`.

DIR holds photographs, one crop of each, with a manifest.csv that names attributions; every EVERY-th
of them calibrates. For each NAME, such as `span-x4-f32` or `realesr-x4-bf16`, this runs `trustscale
calibrate` with nothing but defaults, and writes `app/calibration/shipped/NAME.calibration`.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SHIPPED = Path("app/calibration/shipped")
NOTE = (
    "One crop of 512×512 of each of {count} photographs by {people} people and series; nothing "
    "aerial, medical or drawn."
)


def main() -> None:
    """Make them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    with (given.folder / "manifest.csv").open() as table:
        rows = sorted(csv.DictReader(table), key=lambda row: row["file"])
    chosen = rows[given.first :: given.every]
    with tempfile.TemporaryDirectory() as place:
        photographs, people = Path(place) / "photographs", Path(place) / "attributions.txt"
        photographs.mkdir()
        for row in chosen:
            (photographs / row["file"]).symlink_to((given.folder / row["file"]).resolve())
        makers = len({row["group"] for row in chosen})
        note = NOTE.format(count=len(chosen), people=makers)
        people.write_text("\n".join(sorted({credit(row) for row in chosen})))
        for name in given.names:
            upscaler, _, precision = name.rpartition("-")
            subprocess.run(
                [
                    *(str(Path(sys.executable).parent / "trustscale"), "calibrate"),
                    str(photographs),
                    *("--upscaler", upscaler, "--name", name, "--note", note),
                    *("--attributions", str(people)),
                    *("--export", str(SHIPPED / f"{name}.calibration")),
                ],
                env={**os.environ, "TRUSTSCALE_PRECISION": precision},
                check=True,
            )


def credit(row: dict[str, str]) -> str:
    """Who is to be named for a photograph, and its licence."""
    return f"{row['attribution']} ({row['licence']})"[:1000]


if __name__ == "__main__":
    main()
