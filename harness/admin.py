"""What an admin does over HTTP, in a few words."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from harness.factories import encoded, photo, sharp
from harness.gateway import AS_ADMIN, ended

BASE = "/v1/admin/calibrations"
SAMPLES = 4

Files = Mapping[str, bytes]


def truth_files(count, *, first=0, side=48):
    """Only high-resolution images: `y/NAME.png`."""
    return {f"y/{k:03}.png": encoded(photo(k, side, side)) for k in range(first, first + count)}


def sharp_files(count):
    """The same of parts of a photograph, whose inputs are sharp."""
    lefts = (48, 64, 80, 96)[:count]
    return {f"y/{k:03}.png": encoded(sharp(left)) for k, left in enumerate(lefts)}


def pair_files(count, *, side=48):
    """X and Y; X has half the size."""
    inputs = {f"x/{k:03}.png": encoded(photo(k, side, side)[::2, ::2]) for k in range(count)}
    return {**truth_files(count, side=side), **inputs}


def zipped(files, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def label(*, differs, side=48):
    """A label PNG: nothing differs, or a square does."""
    pixels = np.zeros((side, side), np.uint8)
    if differs:
        pixels[8:16, 8:16] = 255
    return encoded(pixels)


@dataclass(frozen=True)
class Admin:
    client: TestClient

    def send(self, method, path="", **options):
        headers = {**AS_ADMIN, **options.pop("headers", {})}
        return self.client.request(method, f"{BASE}{path}", headers=headers, **options)

    def get(self, path="", **params):
        response = self.send("GET", path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def post_files(self, files, path="", fields=None, **config):
        """Create (or extend, at a path) from files, zipped, or from an archive; further fields.

        X is made in one way unless the config says otherwise: seven times fewer pictures to make.
        """
        archive = files if isinstance(files, bytes) else zipped(files)
        data = dict(fields or {})
        if not path:
            data["config"] = json.dumps({"samples": SAMPLES, "degradation": {}, **config})
        return self.send("POST", path, files={"archive": ("pairs", archive)}, data=data)

    def ended(self, response):
        assert response.status_code == 202, response.text
        job = response.json()
        assert response.headers["location"] == f"/v1/jobs/{job['id']}"
        assert (job["kind"], job["state"]) == ("calibration", "queued")
        return ended(self.client, response.headers["location"])

    def made(self, response):
        job = self.ended(response)
        assert job["state"] == "succeeded", job
        made: dict[str, Any] = self.get(job["result"].removeprefix(BASE))
        return made

    def create(self, files, **options):
        return self.made(self.post_files(files, **options))
