"""Versions of labels, and which of them a calibration is made with."""

from __future__ import annotations

import pytest

from app.calibration import labels
from app.errors import NotFound
from app.stores.files import FileSpool


async def test_what_is_settled_stays(tmp_path):
    """A version that comes after the labels were settled is not the one that is used."""
    spool = FileSpool(tmp_path / "spool")
    await labels.save(spool, "job", "a", b"1", seen=None)
    await labels.save(spool, "job", "a", b"2", seen=None)
    assert await labels.frozen(spool, "job") == {"a": 2}  # the newest, while nothing is settled
    await labels.freeze(spool, "job")
    await labels.save(spool, "job", "a", b"3", seen=None)
    await labels.save(spool, "job", "b", b"1", seen=None)
    settled = await labels.frozen(spool, "job")
    assert settled == {"a": 2}
    assert await labels.used(spool, "job", "a", settled) == b"2"
    with pytest.raises(NotFound):
        await labels.used(spool, "job", "b", settled)
    assert await labels.read(spool, "job", "a") == (b"3", 3)


async def test_a_label_that_comes_while_they_are_settled(tmp_path):
    """It is either one that counts, or known to be late: never neither."""

    class Racing(FileSpool):
        """Somebody saves a label between the look at the versions and their settling."""

        raced = False

        async def put(self, job: str, name: str, data: bytes) -> None:
            if not self.raced:
                self.raced = True
                await labels.save(self, job, "a", b"second", seen=1)
            await super().put(job, name, data)

    spool = Racing(tmp_path)
    assert await labels.save(spool, "job", "a", b"first", seen=0) == 1
    await labels.freeze(spool, "job")
    settled = await labels.frozen(spool, "job")
    assert await labels.used(spool, "job", "a", settled) == b"second"
    assert not await labels.is_late(spool, "job", "a", 2)
    assert await labels.save(spool, "job", "a", b"third", seen=2) == 3
    assert await labels.is_late(spool, "job", "a", 3)
