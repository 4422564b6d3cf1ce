"""A process that writes to the stores as fast as it can until it is killed.

It says what it was promised on its output, one line each, after the promise.
Arguments: URL, data folder, number of this life.
"""

import asyncio
import sys
from pathlib import Path

from harness.documents import head, job
from trustscale_server.stores.job_status import JobState
from trustscale_server.stores.opened import open_stores


def say(kind, name):
    sys.stdout.write(f"{kind} {name}\n")
    sys.stdout.flush()


async def write(url, data_dir, life):
    stores = open_stores(url, data_dir, result_ttl_s=600, max_result_bytes=10**9)

    async def calibrate():
        for i in range(10**6):
            name = f"{life}-{i}"
            await stores.calibrations.put(head(name), name.encode() * 5000)
            say("calibration", name)
            await stores.calibrations.activate(name, without=None)  # alone, or only eight could be
            say("active", name)

    async def keep_results():
        for i in range(10**6):
            name = f"{life}-{i}"
            blobs = {f"{k}.png": name.encode() * 20000 for k in range(3)}
            await stores.results.put(name, name.encode(), blobs)
            say("result", name)

    async def work():
        for i in range(10**6):
            name = f"{life}-{i}"
            await stores.jobs.create(job(name))
            say("job", name)
            await stores.jobs.start(name, "", "writer")
            for k in range(3):
                await stores.jobs.record(name, f"pair{k}", name.encode())
            await stores.jobs.finish(name, JobState.SUCCEEDED, result=name)
            say("finished", name)

    await asyncio.gather(calibrate(), keep_results(), work())


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
