"""The admin's side of the pages' tests: a client of the API, its jobs, signed-in pages."""

import io

import httpx
import numpy as np
from PIL import Image

from harness.browser import ADMIN_KEY
from harness.factories import encoded, photo
from trustscale import Tar, Trustscale

BASE = "/v1/admin/calibrations"
MARKUP = "<img src=x onerror=alert(1)>"
"""A name that would be run if a page took it for markup."""


class Api:
    def __init__(self, url):
        self.client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=120
        )
        self.service = Trustscale(url, ADMIN_KEY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.service.close()

    def get(self, path, **params):
        response = self.client.get(path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def create(self, files, **config):
        return self.service.calibrate(Tar(files), **{"samples": 4, "degradation": {}, **config}).id

    def ended(self, job):
        """The job once it runs no more."""
        found = self.service.job(job)
        found.watch()
        return found.document

    def made(self, files, **config):
        job = self.ended(self.create(files, **config))
        assert job["state"] == "succeeded", job
        return str(job["result"]).rpartition("/")[2]

    def active(self, upscaler="fast"):
        (found,) = [one for one in self.get("/v1/upscalers") if one["name"] == upscaler]
        return str(found["calibration"])

    def label(self, job, name):
        response = self.client.get(f"{BASE}/{job}/pairs/{httpx.URL(name)}/label.png")
        assert response.status_code == 200, response.text
        return np.asarray(Image.open(io.BytesIO(response.content))).astype(bool)


def truths(count, *, first=0, height=48, width=48):
    return {f"y/{k:03}.png": encoded(photo(k, height, width)) for k in range(first, first + count)}


def originals(count, *, first=0):
    files = truths(count, first=first).items()
    return [upload(data, name.removeprefix("y/")) for name, data in files]


def upload(data, name="piece.png", kind="image/png"):
    return {"name": name, "mimeType": kind, "buffer": data}
