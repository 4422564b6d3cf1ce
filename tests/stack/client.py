"""What users and admins do through the proxy, in a few words."""

import json
import time
from contextlib import suppress

import httpx

from harness.factories import encoded, photo
from harness.waiting import block_until

CALIBRATIONS = "/v1/admin/calibrations"
SMALL = encoded(photo(1000, 32, 32))


class Client:
    """Requests through the proxy. Each is made once: what fails once, a user sees."""

    def __init__(self, stack):
        self._stack = stack
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{stack.http_port}", timeout=120)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._http.close()

    @property
    def admin(self):
        return {"Authorization": f"Bearer {self._stack.admin_key}"}

    def get(self, path, **headers):
        return self._http.get(path, headers=headers)

    def upscale(self, image=SMALL, **fields):
        return self._http.post("/v1/upscale", files={"image": image}, data=fields)

    def submit(self, image=SMALL):
        headers = {"Prefer": "respond-async"}
        return _location(self._http.post("/v1/upscale", files={"image": image}, headers=headers))

    def calibrate(self, count=20, *, upscaler="span-x4", **config):
        files = [("y", (f"{k:02}.png", encoded(photo(k, 128, 128)))) for k in range(count)]
        # X is made in one way: the usual mixture would be sixteen times as many.
        settings = {"upscaler": upscaler, "activate": False, "degradation": {}, **config}
        data = {"config": json.dumps(settings)}
        return _location(self._http.post(CALIBRATIONS, files=files, data=data, headers=self.admin))

    def finished(self, job):
        """The job once it has ended, however long it takes, if only it goes on."""
        found = {}

        def went_on():
            nonlocal found
            before, found = found, _checked(self.get(job, **self.admin)).json()
            return found != before

        while found.get("state") not in {"succeeded", "failed", "cancelled"}:
            block_until(went_on)
        return found

    def calibrations(self):
        return {item["id"] for item in _checked(self.get(CALIBRATIONS, **self.admin)).json()}

    def answers(self):
        """The seconds until something is ready behind the proxy and an upscaling is answered."""
        began = time.monotonic()

        def is_ready():
            with suppress(httpx.TransportError):
                return self.get("/readyz").status_code == 200
            return False

        block_until(is_ready)
        _checked(self.upscale())
        return time.monotonic() - began


def _checked(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer


def _location(answer):
    return _checked(answer, 202).headers["Location"]
