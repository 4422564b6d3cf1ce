"""Versions of labels: none replaces one that its author has not seen; which of them are used."""

import asyncio

import pytest
from obstore.store import MemoryStore

from trustscale_server.calibrating import labels
from trustscale_server.platform.errors import NotFound, Superseded
from trustscale_server.stores.blobs import Blobs, open_blobs


@pytest.fixture
def blobs(tmp_path):
    return open_blobs(None, tmp_path)


async def test_one_of_many_wins(tmp_path):
    """Of all who have seen the same version exactly one creates the next."""
    doors = [open_blobs(None, tmp_path) for _ in range(4)]
    await labels.save(doors[0], "job", "a.b", b"first", seen=0)
    told = await asyncio.gather(
        *(labels.save(doors[i % 4], "job", "a.b", b"%d" % i, seen=1) for i in range(16)),
        return_exceptions=True,
    )
    (winner,) = [i for i, outcome in enumerate(told) if outcome == 2]
    assert sum(isinstance(outcome, Superseded) for outcome in told) == 15
    assert await labels.newest_label(doors[0], "job", "a.b") == (b"%d" % winner, 2)


async def test_versions_have_no_gap(blobs):
    """Who names a version that never was is refused, and cannot hide what there is."""
    await labels.save(blobs, "job", "a", b"1", seen=0)
    with pytest.raises(Superseded) as refused:
        await labels.save(blobs, "job", "a", b"9", seen=8)
    assert refused.value.members == {"version": 1}
    assert await labels.newest_label(blobs, "job", "a") == (b"1", 1)


async def test_versions_are_not_downloaded(blobs, monkeypatch):
    """A page saves a label at every pause of the hand, and nobody reads the others for that."""
    monkeypatch.setattr("obstore.get_async", None)
    for seen in (None, None, 2):
        newest = await labels.save(blobs, "job", "a", b"label", seen=seen)
    with pytest.raises(Superseded):
        await labels.save(blobs, "job", "a", b"label", seen=1)
    assert newest == 3


async def test_what_is_settled_stays(blobs):
    """A version that comes after the labels were settled is not the one that is used."""
    await labels.save(blobs, "job", "a", b"1", seen=None)
    await labels.save(blobs, "job", "a", b"2", seen=None)
    assert await labels.frozen(blobs, "job") == {"a": 2}  # the newest, while nothing is settled
    await labels.freeze(blobs, "job")
    await labels.save(blobs, "job", "a", b"3", seen=None)
    await labels.save(blobs, "job", "b", b"1", seen=None)
    settled = await labels.frozen(blobs, "job")
    assert settled == {"a": 2}
    assert await labels.used(blobs, "job", "a", settled) == b"2"
    with pytest.raises(NotFound):
        await labels.used(blobs, "job", "b", settled)
    assert await labels.newest_label(blobs, "job", "a") == (b"3", 3)


async def test_a_label_that_comes_while_they_are_settled():
    """It is either one that counts, or known to be late: never neither."""

    class Racing(Blobs):
        """Somebody saves a label between the look at the versions and their settling."""

        raced = False

        async def put(self, job, name, data):
            if not self.raced:
                self.raced = True
                await labels.save(self, job, "a", b"second", seen=1)
            await super().put(job, name, data)

    blobs = Racing(MemoryStore())
    assert await labels.save(blobs, "job", "a", b"first", seen=0) == 1
    await labels.freeze(blobs, "job")
    settled = await labels.frozen(blobs, "job")
    assert await labels.used(blobs, "job", "a", settled) == b"second"
    assert not await labels.is_late(blobs, "job", "a", 2)
    assert await labels.save(blobs, "job", "a", b"third", seen=2) == 3
    assert await labels.is_late(blobs, "job", "a", 3)
