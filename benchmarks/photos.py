"""The photographs of `photos/test`, from their public sources: `python -m benchmarks.photos DIR`.

`photos.csv` names, for each of 100 crops of 512×512 pixels, the file that it is cut from, its
reduction (Lanczos) and its place, the licence, the author, and the first 16 digits of the SHA-256
of its pixels. 23 crops are of two packages of Debian, which need not be installed:

    apt-get download budgie-backgrounds lomiri-wallpapers-16.04
    for package in *.deb; do dpkg-deb -x "$package" sources; done
    python -m benchmarks.photos photos/test --sources sources

The others are of repositories on GitHub, at the named commit: below `sources` as OWNER/NAME/PATH.
What is there is made, and checked; what is not is counted.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

TABLE = Path(__file__).with_suffix(".csv")


class Crop(NamedTuple):
    """A row of the table; box: left, top, right and bottom in the reduced photograph."""

    name: str
    photograph: str
    box: tuple[float, float, float, float]
    scale: float
    source: str
    digest: str

    def file(self, sources: Path) -> Path:
        """Where its photograph lies below a folder."""
        origin, _, path = self.source.partition(" ")
        kind, _, name = origin.partition(":")
        if kind == "deb":
            return sources / path.lstrip("/")
        return sources / name.partition("@")[0] / path

    def made(self, sources: Path) -> Image.Image:
        """Cut it out. Raises ValueError if its pixels are others than those of the table."""
        with Image.open(self.file(sources)) as opened:
            whole = opened.convert("RGB")
        size = round(self.scale * whole.width), round(self.scale * whole.height)
        if size != whole.size:
            whole = whole.resize(size, Image.Resampling.LANCZOS)
        crop = whole.crop(self.box)
        if not hashlib.sha256(crop.tobytes()).hexdigest().startswith(self.digest):
            raise ValueError(f"{self.name}: {self.file(sources)} has other pixels than the table's")
        return crop


def crops() -> Iterator[Crop]:
    """The rows of the table."""
    with TABLE.open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            left, top, right, bottom = (float(row[k]) for k in ("left", "top", "right", "bottom"))
            yield Crop(
                name=row["name"],
                photograph=row["photograph"],
                box=(left, top, right, bottom),
                scale=float(row["scale"]),
                source=row["source"],
                digest=row["sha256"],
            )


def photo_folder(folder: str) -> Path:
    """The type of an argument of benchmarks: a folder of photographs that is there."""
    if not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(
            f"there is no folder {folder}; benchmarks/photos.py makes a part of photos/test"
        )
    return Path(folder)


def main(arguments: list[str] | None = None) -> int:
    """Make the crops whose photographs are there, and a table of their scenes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the crops are written")
    parser.add_argument("--sources", type=Path, default=Path("/"), help="where photographs lie")
    given = parser.parse_args(arguments)
    every = list(crops())
    there = [crop for crop in every if crop.file(given.sources).is_file()]
    if not there:
        print(f"{parser.prog}: no photograph of the table is in {given.sources}", file=sys.stderr)
        return 1
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = ["name,scene"]
    for crop in there:
        try:
            crop.made(given.sources).save(given.folder / f"{crop.name}.png")
        except (OSError, ValueError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
        rows.append(f"{crop.name},{crop.photograph}")
    (given.folder / "manifest.csv").write_text("\n".join([*rows, ""]), "utf-8")
    print(f"{len(there)} of {len(every)} crops are in {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
