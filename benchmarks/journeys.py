"""The modules that three requests walk through: `python -m benchmarks.journeys [-v]`.

An upload to the shipped model; an archive of truths that becomes an active calibration of a paid
upscaler; an upload to that one, whose server is busy once. Each is made twice, and of the second
walk those modules of `app` are printed of which a function is called, in any thread, in the order
of the first calls, with -v with the functions. What runs beside an upload, such as the monitor, is
left out; of the archive it does the work.
"""

import asyncio
import sys
import tempfile
import threading
from contextvars import ContextVar
from pathlib import Path

from app.main import create_app
from app.settings import Settings
from tests.api.admin import BASE, truth_files, zipped
from tests.api.gateway import ADMIN_KEY, AS_ADMIN, running
from tests.factories import encoded, photo
from tests.upscalers.remote.faults import FaultServer, answer
from tests.upscalers.remote.pictures import decoded, sample

ROOT = f"{Path(__file__).parent.parent}/app/"
BUSY = answer(503, headers={"Retry-After": "0"})
is_beside = ContextVar("is_beside", default=False)


async def paid(asked, writer):
    await answer(body=encoded(sample(decoded(asked.body))))(asked, writer)


async def walk(name, journey, *, with_beside=False):
    await journey(0)
    found = {}

    def note(frame, event, _):
        file, function = frame.f_code.co_filename, frame.f_code.co_qualname
        if event == "call" and file.startswith(ROOT) and (with_beside or not is_beside.get()):
            found.setdefault(file.removeprefix(ROOT), {})[function] = None

    noted.append(note)
    await journey(1)
    noted.clear()
    print(f"\n{name}: {len(found)} modules")
    for module, functions in found.items():
        print(" ", module, *([":", *functions] if "-v" in sys.argv else []))


async def main(folder):
    async with FaultServer([paid]) as server:
        form = {"request": {"path": "/", "form": "raw"}, "answer": {"image": "body"}}
        entry = {"name": "paid", "kind": "http", "url": server.url, "scale": 2, "canary": "off"}
        entries = [{"name": "span-x4", "kind": "embedded"}, entry | form]
        settings = Settings(
            data_dir=folder,
            admin_keys=[ADMIN_KEY],
            upscalers=entries,
            monitor_client_interval_s=1e6,  # so that it counts the first upload only
        )
        is_beside.set(True)
        async with running(create_app(settings)) as served:
            is_beside.set(False)

            async def upload(turn, upscaler="span-x4"):
                made = await served.post(encoded(photo(turn, 48, 48)), upscaler=upscaler)
                made.raise_for_status()

            async def archive(turn):
                files = {"archive": ("a.zip", zipped(truth_files(12, first=20 * turn, side=96)))}
                data = {"config": '{"upscaler": "paid", "degradation": {}, "activate": true}'}
                begun = await served.client.post(BASE, headers=AS_ADMIN, files=files, data=data)
                assert '"succeeded"' in await served.events(begun.headers["location"])

            async def retry(turn):
                server.behaviours.insert(0, BUSY)
                await upload(turn, "paid")

            await walk("an upload", upload)
            await walk("an archive, to an active calibration", archive, with_beside=True)
            await walk("a paid call with a retry", retry)


if __name__ == "__main__":
    noted = []  # a list, since threads keep the profiler that they began with

    def profile(*event):
        for note in noted:
            note(*event)

    threading.setprofile(profile)
    sys.setprofile(profile)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))
