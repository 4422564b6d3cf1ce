"""Make the calibrations that are shipped: `python -m benchmarks.ship DIR NAME…`.

DIR holds photographs, one crop of each, with a manifest.csv that names attributions. For each NAME,
such as `span-x4-f32` or `realesr-x4-bf16`, this runs `trustscale calibrate` with nothing but
defaults on every EVERY-th of them, and on the others for uploads without loss alone, the commonest
class; both together become `app/calibration/shipped/NAME.calibration`. A run that was stopped goes
on, as `trustscale calibrate` does.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from app.calibration import file
from app.calibration.record import Calibration
from app.images.degrade import USUAL

SHIPPED = Path("app/calibration/shipped")
MORE = "lossless"  # the way of making X that all photographs go through
NOTE = (
    "One crop of 512×512 of each of {count} photographs by {people} people and series, {some} of "
    "them for all classes of uploads; nothing aerial, medical or drawn."
)


def main() -> None:
    """Make them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args()
    with (given.folder / "manifest.csv").open() as table:
        rows = sorted(csv.DictReader(table), key=lambda row: row["file"])
    chosen, others = rows[:: given.every], [r for k, r in enumerate(rows) if k % given.every]
    makers = len({row["group"] for row in rows})
    note = NOTE.format(count=len(rows), people=makers, some=len(chosen))
    for name in given.names:
        whole = calibrated(given.folder, chosen, name, [])
        more = whole
        with tempfile.NamedTemporaryFile("w", suffix=".json") as mixture:
            mixture.write(USUAL.variants()[MORE].model_dump_json())
            mixture.flush()
            if others:
                more = calibrated(given.folder, others, name, ["--mixture", mixture.name])
        made = joined(whole, more, note)
        (SHIPPED / f"{name}.calibration").write_bytes(file.dump(made))


def calibrated(
    folder: Path, rows: Sequence[dict[str, str]], name: str, options: Sequence[str]
) -> Calibration:
    """By the command line of this program, from some photographs of the folder."""
    upscaler, _, precision = name.rpartition("-")
    with tempfile.TemporaryDirectory() as place:
        photographs, people = Path(place) / "photographs", Path(place) / "attributions.txt"
        photographs.mkdir()
        for row in rows:
            (photographs / row["file"]).symlink_to((folder / row["file"]).resolve())
        credits_ = {f"{row['attribution']} ({row['licence']})"[:1000] for row in rows}
        people.write_text("\n".join(sorted(credits_)))
        out = Path(place) / "made.calibration"
        command = Path(sys.executable).parent / "trustscale"
        subprocess.run(
            [
                *(str(command), "calibrate", str(photographs), "--upscaler", upscaler),
                *("--name", name, "--attributions", str(people), "--export", str(out), *options),
            ],
            env={**os.environ, "TRUSTSCALE_PRECISION": precision},
            check=True,
        )
        return file.load(out.read_bytes())


def joined(whole: Calibration, more: Calibration, note: str) -> Calibration:
    """The pairs of both; what is known of their making is that of the first.

    Of the second only those whose X is of the class that it was made for: strays would change the
    law of the other classes.
    """
    told = whole.manifest.provenance
    people = sorted({*told.attributions, *more.manifest.provenance.attributions})
    pairs = whole.measured_pairs()
    if more is not whole:
        pairs += [p for p in more.measured_pairs() if (p.info.input_class or "").startswith(MORE)]
    return whole.with_pairs(
        pairs,
        created_by=told.created_by,
        created_at=whole.manifest.created_at,
        provenance=told.model_copy(update={"attributions": people, "note": note}),
    )


if __name__ == "__main__":
    main()
