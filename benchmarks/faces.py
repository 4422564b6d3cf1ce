"""Which faces are found on the plain enlargement of an upload, and what is taken for one.

`python -m benchmarks.faces PHOTOS [EVERY|area]`: PHOTOS has the folders `test` and `distinct`.
Their faces, in `faces.csv`, were found in the truths by two detectors at three sizes, with low
thresholds, and then checked by eye. Every photograph of 512 pixels is an upload of 128 for ×4, by
kind of upload, once as small uploads are enlarged and once as large ones are. False finds come
from every EVERY-th photograph without a face. Last, the trusted area of every photograph of `test`
with its faces and without them, under the shipped calibrations; `area` measures that alone.
"""

from __future__ import annotations

import asyncio
import csv
import io
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from PIL import Image

from benchmarks.request import with_state
from benchmarks.table import print_table
from benchmarks.timing import timed
from trustscale_server.bootstrap.settings import Settings
from trustscale_server.http.app import create_app
from trustscale_server.things.faces import Face, face_network_file, find_faces
from trustscale_server.upscalers.embedded.runtime import load_session

SCALE, SIDE = 4, 512
KINDS = ("PNG", "JPEG 95", "JPEG 75", "JPEG 50", "JPEG 30", "soft ×1.5", "grey", "turned 15°")
ZOOMS = {"small uploads": 4.0, "uploads of 512 pixels and more": 2.0}
BANDS = ((10, 16), (16, 24), (24, 36), (36, SIDE + 1))  # height in pixels of the output
FILES = ("test/*.webp", "distinct/*/*.webp")


class Known(NamedTuple):
    """A face, or what may be one, in a truth."""

    box: Sequence[float]
    is_clear: bool

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    def turned(self) -> Known | None:
        """Where it is in the turned truth; None if it leaves the picture."""
        left, top, right, bottom = (side - SIDE / 2 for side in self.box)
        x, y, angle = (left + right) / 2, (top + bottom) / 2, math.radians(15)
        x, y = (
            math.cos(angle) * x + math.sin(angle) * y,
            math.cos(angle) * y - math.sin(angle) * x,
        )
        half = (right - left) / 2, (bottom - top) / 2
        box = [x - half[0], y - half[1], x + half[0], y + half[1]]
        inside = max(map(abs, box)) <= SIDE / 2
        return self._replace(box=[side + SIDE / 2 for side in box]) if inside else None

    def is_found(self, faces: Sequence[Face]) -> bool:
        return any(_share(face, self.box) > 0.5 for face in faces)


def _share(face: Face, box: Sequence[float]) -> float:
    """The share of the smaller box that both cover, of those of similar size."""
    wide = min(face.right, box[2]) - max(face.left, box[0])
    high = min(face.bottom, box[3]) - max(face.top, box[1])
    areas = (
        (face.right - face.left) * (face.bottom - face.top),
        (box[2] - box[0]) * (box[3] - box[1]),
    )
    similar = max(areas) < 6 * min(areas)
    return max(0.0, wide) * max(0.0, high) / min(areas) if similar else 0.0


def upload(truth: Image.Image, kind: str) -> Image.Image:
    """Return the upload of a kind for a truth."""
    if kind == "grey":
        truth = truth.convert("L").convert("RGB")
    if kind.startswith("turned"):
        truth = truth.rotate(15, Image.Resampling.BICUBIC)
    small = truth.resize((SIDE // SCALE,) * 2, Image.Resampling.BICUBIC)
    if kind.startswith("soft"):
        softer = round(SIDE / SCALE / 1.5)
        small = small.resize((softer, softer), Image.Resampling.BICUBIC)
        small = small.resize((SIDE // SCALE,) * 2, Image.Resampling.BICUBIC)
    if kind.startswith("JPEG"):
        file = io.BytesIO()
        small.save(file, "JPEG", quality=int(kind[5:]))
        small = Image.open(file).convert("RGB")
    return small


def known_faces() -> dict[str, list[Known]]:
    known = defaultdict(list)
    with (Path(__file__).parent / "faces.csv").open() as file:
        for row in csv.DictReader(file):
            box = [float(row[side]) for side in ("left", "top", "right", "bottom")]
            known[row["file"]].append(Known(box, row["kind"] == "face"))
    return known


class Finder:
    """Finds faces of uploads in pixels of the output, and adds up the time that it takes."""

    def __init__(self) -> None:
        self.session = load_session(
            face_network_file(), name="CenterFace", threads=1, precision="auto"
        )
        self.seconds = defaultdict(list)

    def __call__(self, picture: Image.Image, zoom: float) -> list[Face]:
        took = timed(lambda: find_faces(np.asarray(picture), zoom, self.session.run))
        self.seconds[picture.width, zoom].append(took.cpu)
        return [
            Face(*(SCALE * side for side in face[:4]), score=face.score) for face in took.result
        ]


def recall(photos: Path, known: dict[str, list[Known]], find: Finder) -> None:
    """Print which known faces are found, by size and kind of upload."""
    known = {file: faces for file, faces in known.items() if any(f.is_clear for f in faces)}
    heads = [f"{low} to {high - 1} pixels" for low, high in BANDS[:-1]]
    for title, zoom in ZOOMS.items():
        rows = []
        for kind in KINDS:
            found, false = defaultdict(list), 0
            for file, upright in known.items():
                with Image.open(photos / file) as truth:
                    finds = find(upload(truth.convert("RGB"), kind), zoom)
                is_turned = kind.startswith("turned")
                faces = [f for f in map(Known.turned, upright) if f] if is_turned else upright
                for face, band in product(faces, BANDS):
                    if face.is_clear and band[0] <= face.height < band[1]:
                        found[band].append(face.is_found(finds))
                false += sum(not any(face.is_found([one]) for face in faces) for one in finds)
            rows.append((kind, *(f"{sum(found[b])} of {len(found[b])}" for b in BANDS), false))
        print(f"\nFaces found in {len(known)} photographs, {title} ({zoom:g} times enlarged)\n")
        print_table(("upload", *heads, f"from {BANDS[-1][0]}", "false"), rows)


def false_finds(photos: Path, files: Sequence[Path], find: Finder) -> None:
    """Print what is taken for faces in photographs without any."""
    rows = []
    for (title, zoom), kind in product(ZOOMS.items(), ("PNG", "JPEG 50")):
        finds = []
        for file in files:
            with Image.open(photos / file) as truth:
                finds.append(find(upload(truth.convert("RGB"), kind), zoom))
        area = sum((f.right - f.left) * (f.bottom - f.top) for found in finds for f in found)
        share = f"{100 * area / SIDE**2 / len(finds):.2f} %"
        rows.append((title, kind, f"{sum(map(bool, finds))} of {len(finds)}", share))
    print("\nTaken for faces in photographs without any\n")
    print_table(("", "upload", "photographs", "area"), rows)


async def trusted_area(photos: Path, find: Finder) -> None:
    """Print how much is trusted with faces and without, and how much of the faces was."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder), faces="keep", letters="keep"))
        async with app.router.lifespan_context(app) as state:
            transport = httpx.ASGITransport(with_state(app, state))
            async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
                for model, kind in product(("span-x4", "realesr-x4"), ("PNG", "JPEG 75")):
                    whole, left, in_faces = [], [], []
                    for file in sorted((photos / "test").glob("*.webp")):
                        with Image.open(file) as truth:
                            small = upload(truth.convert("RGB"), kind)
                        mask = await mask_of(client, small, model)
                        whole.append(mask.mean())
                        inside = np.zeros_like(mask)
                        for face in find(small, ZOOMS["small uploads"]):
                            low, high = np.floor(face[:2]).astype(int), np.ceil(face[2:4])
                            inside[low[1] : int(high[1]), low[0] : int(high[0])] = True
                        in_faces.append(mask[inside])
                        left.append((mask & ~inside).mean())
                    share = np.concatenate(in_faces).mean()
                    some = sum(map(bool, map(len, in_faces)))
                    areas = (f"{np.mean(whole):.4f}", f"{np.mean(left):.4f}", f"{share:.2f}", some)
                    rows.append((model, kind, *areas))
    print("\nTrusted area of photos/test at the default α\n")
    head = ("model", "upload", "with faces", "without", "trusted of faces", "photographs with any")
    print_table(head, rows)


async def mask_of(client: httpx.AsyncClient, picture: Image.Image, model: str) -> np.ndarray:
    file = io.BytesIO()
    picture.save(file, "PNG")
    sent = {"files": {"image": ("photo.png", file.getvalue())}, "data": {"upscaler": model}}
    answer = await client.post("/v1/upscale", **sent, timeout=None)
    answer.raise_for_status()
    found = await client.get(answer.json()["links"]["mask"])
    return np.asarray(Image.open(io.BytesIO(found.content))) > 0


def main(photos: Path, every: int) -> None:
    known, find = known_faces(), Finder()
    recall(photos, known, find)
    found = (file.relative_to(photos) for pattern in FILES for file in photos.glob(pattern))
    false_finds(photos, sorted(file for file in found if str(file) not in known)[::every], find)
    print(f"\n{find.session.provider}, {find.session.precision}: milliseconds of a core\n")
    large = Image.new("RGB", (SIDE, SIDE), "grey")
    for _ in range(3):
        find(large, 2.0)
    rows = [
        (f"{side}×{side}", zoom, f"{1e3 * np.median(seconds):.0f}")
        for (side, zoom), seconds in find.seconds.items()
    ]
    print_table(("upload", "enlarged", "ms"), rows)
    asyncio.run(trusted_area(photos, find))


if __name__ == "__main__":
    folder, step = [*sys.argv[1:], *["photos", "4"][len(sys.argv) - 1 :]]
    if step == "area":
        asyncio.run(trusted_area(Path(folder), Finder()))
    else:
        main(Path(folder), int(step))
