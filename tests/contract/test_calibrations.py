"""The promises of CalibrationStore."""

import asyncio

import pytest

from harness.documents import head, job
from trustscale_server.platform.errors import Conflict, NotFound
from trustscale_server.stores.job_status import JobState


async def test_the_first_put_stays(opener):
    blob = bytes(range(256)) * 1000
    await opener().calibrations.put(head("a"), blob)
    again = opener().calibrations
    await again.put(head("a", "other"), b"second")
    assert await again.get("a") == blob
    assert await again.heads() == [head("a")]


class TestActivate:
    async def test_what_stays(self, stores):
        """The last one is asked first; without some, or alone; at most eight."""
        for name in "abcdefghi":
            await stores.calibrations.put(head(name), b"")
        for name in "abca":
            await stores.calibrations.activate(name)

        async def asked():
            return "".join((await stores.calibrations.active())["span"].calibrations)

        assert await asked() == "acb"
        await stores.calibrations.activate("d", without={"c", "d", "z"})
        assert await asked() == "dab"
        assert (await stores.calibrations.activate("a", without=None)).previous == "d"
        assert await asked() == "a"
        for name in "bcdefgh":
            await stores.calibrations.activate(name)
        with pytest.raises(Conflict, match="only"):
            await stores.calibrations.activate("i")
        assert await asked() == "hgfedcba"

    async def test_only_while_its_job_is_runnable(self, stores):
        await stores.calibrations.put(head("a"), b"")
        await stores.calibrations.put(head("b"), b"")
        for name in ("ended", "cancelled", "unknown"):
            if name != "unknown":
                await stores.jobs.create(job(name))
                await stores.jobs.start(name, "", "ann")
                await stores.calibrations.activate("a", job=name)
            if name == "ended":
                await stores.jobs.finish(name, JobState.SUCCEEDED)
            elif name == "cancelled":
                await stores.jobs.request_cancel(name)
            with pytest.raises(Conflict):
                await stores.calibrations.activate("b", job=name)
        assert (await stores.calibrations.active())["span"].calibration == "a"


class TestDelete:
    async def test_active_is_kept(self, stores):
        for name in ("a", "b"):
            await stores.calibrations.put(head(name), b"")
            await stores.calibrations.activate(name)
        for name in ("a", "b"):
            with pytest.raises(Conflict):
                await stores.calibrations.delete(name)
        await stores.calibrations.activate("b", without=None)
        await stores.calibrations.delete("a")
        for call in (stores.calibrations.get, stores.calibrations.delete):
            with pytest.raises(NotFound):
                await call("a")
        assert [one.id for one in await stores.calibrations.heads()] == ["b"]
        assert (await stores.calibrations.active())["span"].calibration == "b"

    async def test_race_with_activate(self, opener):
        """Whatever the order of a race, what is active exists."""
        one, two = opener(), opener()
        for i in range(20):
            await one.calibrations.put(head(f"c{i}"), b"blob")
            await asyncio.gather(
                one.calibrations.activate(f"c{i}"),
                two.calibrations.delete(f"c{i}"),
                return_exceptions=True,
            )
            for activation in (await one.calibrations.active()).values():
                assert await two.calibrations.get(activation.calibration) == b"blob"
