"""The modules that three requests walk through: `python -m benchmarks.journeys [-v]`.

An upload to the shipped model; an archive of truths that becomes an active calibration of a paid
upscaler; an upload to that one, whose server is busy once. Each is made twice, and of the second
walk those modules of `app` are printed of which a function is called, in any thread, in the order
of the first calls; with -v also the functions. Background tasks count for the archive only.
"""

import asyncio
import sys
import tempfile
import threading
from contextvars import ContextVar
from pathlib import Path

import trustscale_server
from harness.admin import BASE, truth_files, zipped
from harness.factories import encoded, photo
from harness.faults import FaultServer, answer
from harness.gateway import ADMIN_KEY, AS_ADMIN, running
from harness.pictures import decoded, sample
from trustscale_server.main import create_app
from trustscale_server.settings import Settings

ROOT = f"{Path(trustscale_server.__file__).parent}/"
CALL = {"request": {"path": "/", "form": "raw"}, "answer": {"image": "body"}, "canary": "off"}
CONFIG = '{"upscaler": "paid", "degradation": {}, "activate": true}'
is_background = ContextVar("is_background", default=False)
found, counted = {}, []  # functions by module; whether background tasks are counted, during a walk


def profile(frame, event, _):
    file = frame.f_code.co_filename
    # The thread of the database works for all tasks; what it calls is known from its callers.
    is_own = not (
        is_background.get() or threading.current_thread().name.startswith("trustscale-store")
    )
    is_counted = counted and (counted[0] or is_own)
    if is_counted and event == "call" and file.startswith(ROOT):
        found.setdefault(file.removeprefix(ROOT), {})[frame.f_code.co_qualname] = None


async def main(folder):
    async def paid(asked, writer):
        await answer(body=encoded(sample(decoded(asked.body))))(asked, writer)

    async def upload(turn, upscaler="span-x4"):
        image = encoded(photo(turn, 48, 48))
        (await served.post(image, upscaler=upscaler)).raise_for_status()

    async def archive(turn):
        files = {"archive": ("a.zip", zipped(truth_files(12, first=20 * turn, side=96)))}
        sent = {"files": files, "data": {"config": CONFIG}, "headers": AS_ADMIN}
        job = (await served.client.post(BASE, **sent)).headers["location"]
        assert '"succeeded"' in await served.events(job)

    async def retry(turn):
        server.behaviours.insert(0, answer(503, headers={"Retry-After": "0"}))
        await upload(turn, "paid")

    async with FaultServer([paid]) as server:
        place = {"name": "paid", "kind": "http", "url": server.url, "scale": 2}
        entries = [{"name": "span-x4", "kind": "embedded"}, place | CALL]
        settings = Settings(data_dir=folder, admin_keys=[ADMIN_KEY], upscalers=entries)
        is_background.set(True)
        async with running(create_app(settings)) as served:
            is_background.set(False)
            for journey in (upload, archive, retry):
                await journey(0)
                counted.append(journey is archive)
                await journey(1)
                counted.clear()
                print(f"\n{journey.__name__}: {len(found)} modules")
                for module, functions in found.items():
                    print(" ", module, *([":", *functions] if "-v" in sys.argv else []))
                found.clear()


if __name__ == "__main__":
    threading.setprofile(profile)
    sys.setprofile(profile)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
    sys.setprofile(None)
